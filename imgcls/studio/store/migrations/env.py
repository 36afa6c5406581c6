"""Alembic runs this with the connection that `imgcls.studio.store.connect` gives it."""

from alembic import context

from imgcls.studio.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
