"""Alembic's entry: runs on the connection that `Database.migrate` gives it."""

from alembic import context

from lathe.store.gateway.columns import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("The gateway migrates its database itself when it starts.")
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
