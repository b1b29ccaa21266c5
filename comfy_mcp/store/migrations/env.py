"""What Alembic runs. The connection and its transaction come from `run.upgrade`."""

from alembic import context

from comfy_mcp.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite can't alter a column in place
)
context.run_migrations()
