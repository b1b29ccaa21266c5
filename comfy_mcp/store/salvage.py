"""What can be read of a job's row that can't be decoded: one such row is one job's trouble, not everybody's.

A page of the file may be damaged in a way that SQLite does not see, a newer version may have written a value
that this one does not know, somebody may have edited the row.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from comfy_mcp.domain.events import FailureKind, JobFailure, Priority
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.store.codec import UNREADABLE, job_of
from comfy_mcp.store.connection import AnyRow

_INSTEAD: Mapping[str, Any] = {
    "client": "",
    "lane": "",
    "priority": Priority.NORMAL.rank,
    "status": JobStatus.FAILED.value,
    "progress": 0.0,
    "cancel_requested": False,
    **dict.fromkeys(("created_at", "node_count", "attempt", "output_count"), 0),
    **dict.fromkeys(
        (
            *("engine", "prompt_id", "started_at", "finished_at", "current_node", "current_node_title"),
            *("eta_ms", "cancel_reason", "failure", "warnings", "queue_timeout_ms", "run_timeout_ms"),
            *("queue_deadline", "retry_of", "retried_by", "peak_vram_bytes", "shape", "waiting_for"),
            *("batch", "name", "after", "refused_by", "cancelled_by", "progress_at", "webhook"),
            *("spend", "tags"),
        )
    ),
}
"""Of each column that may not be readable, what stands for it."""


def job_shown(row: AnyRow) -> Job:
    """The job as a reader sees it, whatever its row holds."""
    try:
        return job_of(row)
    except UNREADABLE:
        return salvaged(row, at=None)


def salvaged(row: AnyRow, *, at: int | None) -> Job:
    """The job with what is readable. It has ended: one that had not is `failed: internal`."""
    plain = row._replace(**_INSTEAD)
    bad = {name: value for name, value in _INSTEAD.items() if not _is_readable(plain, name, row)}
    job = job_of(row._replace(**bad))
    if job.is_final and not {"status", "failure"} & bad.keys():
        return job
    what = ", ".join(sorted(bad)) or "what was submitted"
    failure = JobFailure(
        kind=FailureKind.INTERNAL, message=f"The record of this workflow can't be read: {what}."
    )
    finished = job.finished_at if at is None else at
    return replace(job, status=JobStatus.FAILED, failure=failure, waiting_for=None, finished_at=finished)


def _is_readable(plain: AnyRow, name: str, row: AnyRow) -> bool:
    try:
        job_of(plain._replace(**{name: getattr(row, name)}))
    except UNREADABLE:
        return False
    return True
