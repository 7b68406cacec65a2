"""Alembic's way into the hub's database: the engine hands over a connection, whose transaction is the hub's to end."""

from alembic import context

from hub.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
