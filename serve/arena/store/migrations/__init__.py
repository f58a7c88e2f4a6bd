"""Migrations of the arena's database, run by alembic when a server starts."""
