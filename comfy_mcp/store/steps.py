"""Steps of progress of the jobs that this process drives: shown at once, written at most once a second.

An engine reports some thousand steps a job. Only the last one matters, so none of them goes into the log: it
is kept here, told to this process's subscribers, and written to the job's row now and then, for the others.
Whoever lost the lease finds out at the next write, within WRITE_S.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from comfy_mcp.domain.events import JobEvent, JobProgressed
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import Job, JobStatus, is_step
from comfy_mcp.store import journal
from comfy_mcp.store.queries import Lease

WRITE_S = 1.0
"""Between two writes of one job's progress: what other processes show of it is as old as that."""

MAX_LIVE = 1024
"""Jobs remembered at once, far more than engines run; beyond it the oldest is shown as its row is."""


@dataclass(slots=True)
class _Live:
    lease: Lease
    job: Job
    written_at: float
    unwritten: JobProgressed | None = None


class Steps:
    """The last step of each running job that was recorded here."""

    def __init__(self) -> None:
        self._live: dict[JobId, _Live] = {}

    def take(self, lease: Lease, job_id: JobId, happened: Sequence[JobEvent]) -> Job | None:
        """The job after `happened`, if these are steps that need not be written yet; else None."""
        live = self._live.get(job_id)
        if live is None or live.lease != lease or time.monotonic() - live.written_at >= WRITE_S:
            return None
        job = live.job
        for event in happened:
            if not is_step(job, event):
                return None
            job = journal.shown_after(job, event)
        for event in happened:
            if isinstance(event, JobProgressed):
                live.job, live.unwritten = job, event
        return job

    def unwritten(self, lease: Lease, job_id: JobId) -> tuple[JobProgressed, ...]:
        """The last step, if it was shown only: it is written with whatever happens next."""
        live = self._live.get(job_id)
        return (live.unwritten,) if live and live.lease == lease and live.unwritten else ()

    def wrote(self, lease: Lease, job: Job) -> None:
        self._live.pop(job.id, None)
        if job.status is JobStatus.RUNNING:
            if len(self._live) >= MAX_LIVE:
                del self._live[next(iter(self._live))]
            self._live[job.id] = _Live(lease, job, time.monotonic())

    def forget(self, lease: Lease) -> None:
        """Another process drives the engine from now on, or nobody."""
        for job_id in [job_id for job_id, live in self._live.items() if live.lease == lease]:
            del self._live[job_id]

    def knows(self, job_id: JobId) -> bool:
        return job_id in self._live

    def shown(self, job: Job) -> Job:
        """`job`, as its row is, with what is known better here."""
        live = self._live.get(job.id)
        if live is None or live.unwritten is None:
            return job
        if job.status is not JobStatus.RUNNING or job.attempt != live.job.attempt:
            return job
        return replace(
            job,
            progress=max(job.progress, live.job.progress),
            current_node=live.job.current_node,
            current_node_title=live.job.current_node_title,
            eta_ms=live.job.eta_ms,
        )
