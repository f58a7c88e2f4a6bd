"""Called by alembic: run the migrations on the connection that `database.migrate` gives."""

from alembic import context

from serve.arena.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
