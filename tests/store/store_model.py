"""What a store should hold, by the pure state machine."""

from dataclasses import dataclass, field

from comfy_mcp.domain.events import (
    JobEvent,
    JobQueued,
    Priority,
)
from comfy_mcp.domain.fair_share import age_tag, first_rank, next_tag, start_tag
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.job import (
    Job,
    JobStatus,
)
from comfy_mcp.store import Lease


@dataclass
class Model:
    """What the store should hold. `owners` is the fence of each attempt in flight or last in flight."""

    jobs: dict[JobId, Job] = field(default_factory=dict)
    owners: dict[JobId, tuple[EngineId, int]] = field(default_factory=dict)
    logs: dict[JobId, list[JobEvent]] = field(default_factory=dict)
    current: dict[EngineId, Lease | None] = field(default_factory=dict)
    live: dict[EngineId, bool] = field(default_factory=dict)
    fences: dict[EngineId, int] = field(default_factory=dict)
    leases: list[tuple[int, Lease]] = field(default_factory=list)
    prompts: int = 0
    tags: dict[JobId, int] = field(default_factory=dict)
    shares: dict[tuple[int, str], int] = field(default_factory=dict)
    passed: dict[int, int] = field(default_factory=dict)

    def is_current(self, lease: Lease) -> bool:
        return self.current.get(lease.engine) == lease

    def overdue(self, now: int) -> list[Job]:
        """What no engine has and what has waited too long, longest first."""
        late = [
            job
            for job in self.jobs.values()
            if job.status is JobStatus.QUEUED
            and not job.is_claimed
            and job.queue_deadline is not None
            and job.queue_deadline <= now
        ]
        return sorted(late, key=lambda job: job.queue_deadline or 0)

    def next_job(self, now: int) -> Job | None:
        able, first = self.claimable(now), first_rank(self.passed)
        return next((job for job in able if job.priority.rank >= first), next(iter(able), None))

    def claimable(self, now: int) -> list[Job]:
        late = self.overdue(now)
        return [job for job in self.waiting() if not job.cancel_requested and job not in late]

    def below(self, priority: Priority, waiting: list[Job]) -> set[int]:
        """The ranks below the priority of which jobs wait."""
        return {job.priority.rank for job in waiting if job.priority.rank > priority.rank}

    def passes(self, claimed: Priority, lower: set[int]) -> None:
        """One of the priority was claimed, and those of lower ones that wait were passed by."""
        self.passed[claimed.rank] = 0
        for rank in lower:
            self.passed[rank] = self.passed.get(rank, 0) + 1

    def waiting(self) -> list[Job]:
        """In run order. Jobs are in the order in which they were submitted, and `sorted` keeps it."""
        unclaimed = [
            job for job in self.jobs.values() if job.status is JobStatus.QUEUED and not job.is_claimed
        ]
        return sorted(unclaimed, key=lambda job: (job.priority.rank, self.tags[job.id]))

    def tag(self, event: JobQueued | Job, *, fair: bool) -> int:
        """Of a job that is new in its queue."""
        rank = event.priority.rank
        virtual_time = max((tag for (r, _), tag in self.shares.items() if r == rank), default=0)
        queue = [
            job
            for job in self.jobs.values()
            if job.status is JobStatus.QUEUED and job.priority is event.priority
        ]
        if not fair:
            newest = max((self.tags[job.id] for job in queue), default=None)
            return age_tag(virtual_time=virtual_time, newest=newest)
        mine = [self.tags[job.id] for job in queue if job.client == event.client]
        mine += [self.shares[rank, event.client]] if (rank, event.client) in self.shares else []
        return start_tag(virtual_time=virtual_time, last=max(mine, default=None))

    def moves_up(self, gone: Job, *, claimed: bool) -> None:
        """The client's next job, for one that waits no more before its first attempt."""
        at_most = next_tag(self.tags[gone.id], claimed=claimed)
        for job in self.waiting():
            if (job.client, job.priority) == (gone.client, gone.priority):
                self.tags[job.id] = min(self.tags[job.id], at_most)
                return

    def owns(self, lease: Lease, job: Job) -> bool:
        return job.prompt_id is None or self.owners[job.id] == (lease.engine, lease.fence)
