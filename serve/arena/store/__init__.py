"""Battles, votes and ratings in a database, through SQLAlchemy and alembic: SQLite or PostgreSQL."""
