"""What Alembic runs: on the connection that it is given, see `service.api.database`."""

from alembic import context

from service.api.database import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
