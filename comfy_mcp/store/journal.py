"""The one place that writes a job's row. Synchronous; runs in a transaction of the caller."""

from sqlalchemy import Connection, bindparam, update

from comfy_mcp.domain.errors import ErrorCode, StoreFault
from comfy_mcp.domain.job import Job
from comfy_mcp.store.codec import mutable_values, progress_values
from comfy_mcp.store.schema import jobs
from comfy_mcp.store.sqlite.threads import notes

# Compare and set: the row must still be what the decision was made on.
_SAME = (
    jobs.c.id == bindparam("b_id"),
    jobs.c.status == bindparam("b_status"),
    jobs.c.attempt == bindparam("b_attempt"),
)
_WRITE = update(jobs).where(*_SAME)


def write(connection: Connection, before: Job, after: Job) -> None:
    """The row becomes `after`, if it still is `before`. Only what changed is written: in SQLite a column
    that is named in an UPDATE has its indexes rewritten."""
    notes(connection).queue_sizes = None
    values = progress_values(after)
    full = mutable_values(after)
    old = mutable_values(before)
    if any(full[name] != old[name] for name in full.keys() - values.keys()):
        values = full
    written = connection.execute(
        _WRITE,
        {**values, "b_id": before.id, "b_status": before.status.value, "b_attempt": before.attempt},
    )
    if written.rowcount != 1:
        raise StoreFault(
            f"The workflow {before.id} changed while it was being written.",
            next_step="Try again.",
            code=ErrorCode.STORE_UNAVAILABLE,
        )
