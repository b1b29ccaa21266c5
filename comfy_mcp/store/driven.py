"""The jobs that this process drives, as it last wrote them: it need not read them again.

Their steps of progress are shown at once and written at most once a second. An engine reports some thousand
steps a job, of which only the last one matters, so none of them goes into the log: it is kept here, sent to
this process's subscribers, and written to the job's row now and then, for the others. A process that lost the
lease finds out at the next write, within WRITE_S.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.events import JobEvent, JobProgressed
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.transitions import is_step
from comfy_mcp.store import journal
from comfy_mcp.store.queries import Lease

WRITE_S = 1.0
"""Between two writes of one job's progress: what other processes show of it is as old as that."""

MAX_DRIVEN = 1024
"""Jobs remembered at once, far more than engines have; beyond it the oldest is read again."""

MAX_ENDED = 256
"""Those whose end was written last: a read of the row from before it may still be on its way."""


@dataclass(slots=True)
class _Known:
    lease: Lease
    written: Job
    written_at: float
    job: Job
    """As it is shown."""
    unwritten: JobProgressed | None = None


class Driven:
    """Nothing of it is a promise: a write that rests on it compares it with the row."""

    def __init__(self) -> None:
        self._known: Bounded[JobId, _Known] = Bounded(MAX_DRIVEN)
        self._ended: Bounded[JobId, _Known] = Bounded(MAX_ENDED)

    def take(self, lease: Lease, job_id: JobId, happened: Sequence[JobEvent]) -> Job | None:
        """The job after `happened`, if these are steps that need not be written yet; else None."""
        known = self._known.get(job_id)
        if known is None or known.lease != lease or time.monotonic() - known.written_at >= WRITE_S:
            return None
        job = known.job
        for event in happened:
            if not is_step(job, event):
                return None
            job = journal.shown_after(job, event)
        for event in happened:
            if isinstance(event, JobProgressed):
                known.job, known.unwritten = job, event
        return job

    def job(self, lease: Lease, job_id: JobId) -> Job | None:
        """As its row should be; None: it has to be read."""
        known = self._known.get(job_id)
        return known.written if known is not None and known.lease == lease else None

    def unwritten(self, lease: Lease, job_id: JobId) -> tuple[JobProgressed, ...]:
        """The last step, if it was shown only: it is written with whatever happens next."""
        known = self._known.get(job_id)
        return (known.unwritten,) if known and known.lease == lease and known.unwritten else ()

    def wrote(self, lease: Lease, job: Job) -> None:
        before = self._known.pop(job.id, None)
        if job.is_claimed:
            self._known[job.id] = _Known(lease, job, time.monotonic(), job)
        elif before is not None:
            self._ended[job.id] = before

    def forget(self, lease: Lease) -> None:
        """Another process drives the engine from now on, or nobody."""
        for job_id in [job_id for job_id, known in self._known.items() if known.lease == lease]:
            del self._known[job_id]

    def knows(self, job_id: JobId) -> bool:
        return job_id in self._known

    def shown(self, job: Job) -> Job:
        """`job`, as its row is, with what is known better here: the row may have been read before the last
        write of it, and nobody is to see less than was shown."""
        known = self._known.get(job.id) or self._ended.get(job.id)
        if known is None or (known.unwritten is None and known.job.progress <= job.progress):
            return job
        if job.status is not JobStatus.RUNNING or job.attempt != known.job.attempt:
            return job
        return replace(
            job,
            progress=max(job.progress, known.job.progress),
            current_node=known.job.current_node,
            current_node_title=known.job.current_node_title,
            eta_ms=known.job.eta_ms,
            progress_at=known.job.progress_at,
        )
