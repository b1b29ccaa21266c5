"""The job and its one state machine.

`evolve(job, event)` is the only place where a job's state changes. It reads no clock and does no I/O:
the event carries its time. TRANSITIONS is the table; nothing leaves a final state.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, assert_never

from comfy_mcp.domain.chains import Parent
from comfy_mcp.domain.events import (
    FailureKind,
    JobEvent,
    JobFailure,
    Priority,
)
from comfy_mcp.domain.ids import BatchId, ClientId, EngineId, JobId, PromptId
from comfy_mcp.domain.spending import Spend
from comfy_mcp.domain.vram import WaitingFor
from comfy_mcp.domain.webhooks import Webhook

ShownStatus = Literal["queued", "running", "completed", "failed", "cancelled"]


class JobStatus(StrEnum):
    BLOCKED = "blocked"  # it waits for other jobs, and has no turn; callers see "queued"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})

_SHOWN: Mapping[JobStatus, ShownStatus] = MappingProxyType(
    {
        JobStatus.BLOCKED: "queued",
        JobStatus.QUEUED: "queued",
        JobStatus.RUNNING: "running",
        JobStatus.COMPLETED: "completed",
        JobStatus.FAILED: "failed",
        JobStatus.CANCELLED: "cancelled",
    }
)

TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = MappingProxyType(
    {
        JobStatus.BLOCKED: frozenset(
            {JobStatus.BLOCKED, JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED}
        ),
        # queued → completed: the engine finished it before any event of its start was seen (resync).
        JobStatus.QUEUED: frozenset({JobStatus.QUEUED, JobStatus.RUNNING, *TERMINAL}),
        # running → queued: the engine was lost and an attempt is left; visible as a `requeued` event.
        JobStatus.RUNNING: frozenset({JobStatus.RUNNING, JobStatus.QUEUED, *TERMINAL}),
        JobStatus.COMPLETED: frozenset(),
        JobStatus.FAILED: frozenset(),
        JobStatus.CANCELLED: frozenset(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One submitted workflow. Times are epoch milliseconds; `progress` is a fraction in [0, 1].

    `attempt` counts submissions to an engine; 0 = never claimed. `prompt_id` and `engine` belong to the
    latest attempt and are None while no attempt is in flight and none has finished. `queue_deadline` is when
    the present wait for a start is too long; it begins anew with each requeue, and with the end of the jobs
    that it waits for (`after`). `gpu_seconds` is the sum and
    `peak_vram_bytes` the greatest of all attempts that were measured. `shape` says which workflows are alike
    in what they need; `name` is for people; `progress_at` is when `progress` and `eta_ms` were so;
    `waiting_for` why a queued one was passed over; `refused_by` which engines have refused it: none of them
    gets it again. `retried_by` is the newest job that retries this one: no event of this job reports it, and
    its state stays what it is. `cancelled_by`: who asked for it first.
    `webhook`: where its events are sent. `spend`: what it may cost and has cost at a service.
    `tags`: the client's own words, each a name and a value.
    """

    id: JobId
    client: ClientId
    lane: str
    priority: Priority
    status: JobStatus
    created_at: int
    node_count: int
    attempt: int = 0
    engine: EngineId | None = None
    prompt_id: PromptId | None = None
    started_at: int | None = None
    finished_at: int | None = None
    progress: float = 0.0
    current_node: str | None = None
    current_node_title: str | None = None
    eta_ms: int | None = None
    progress_at: int | None = None
    cancel_requested: bool = False
    cancel_reason: str | None = None
    cancelled_by: str | None = None
    failure: JobFailure | None = None
    warnings: tuple[str, ...] = ()
    output_count: int = 0
    queue_timeout_ms: int | None = None
    run_timeout_ms: int | None = None
    queue_deadline: int | None = None
    retry_of: JobId | None = None
    retried_by: JobId | None = None
    oom_retried: bool = False
    gpu_seconds: float | None = None
    peak_vram_bytes: int | None = None
    shape: str | None = None
    batch: BatchId | None = None
    name: str | None = None
    after: tuple[Parent, ...] = ()
    waiting_for: WaitingFor | None = None
    refused_by: tuple[EngineId, ...] = ()
    webhook: Webhook | None = None
    spend: Spend | None = None
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def is_final(self) -> bool:
        return self.status in TERMINAL

    @property
    def shown_status(self) -> ShownStatus:
        """For callers, who know five of them: a job that waits for others is queued, and says so."""
        return _SHOWN[self.status]

    @property
    def is_claimed(self) -> bool:
        """An attempt is in flight: an engine has, or may have, its prompt."""
        return not self.is_final and self.prompt_id is not None

    @property
    def waits_unclaimed(self) -> bool:
        """No engine has it: its priority still matters."""
        return self.status in {JobStatus.QUEUED, JobStatus.BLOCKED} and self.prompt_id is None

    @property
    def run_left_ms(self) -> int | None:
        """How long its next run may take, or the present one. Where runs cost money those before count."""
        if self.run_timeout_ms is None or self.spend is None:
            return self.run_timeout_ms
        return max(1, self.run_timeout_ms - self.spend.ran_ms)

    @property
    def run_deadline(self) -> int | None:
        """When the present run is too long. None: it does not run, or may run for ever."""
        left_ms = self.run_left_ms
        if self.status is not JobStatus.RUNNING or self.started_at is None or left_ms is None:
            return None
        return self.started_at + left_ms

    @property
    def can_be_retried(self) -> bool:
        """True for a failed or cancelled job. The retry is a new job, because a final state never changes."""
        return self.status in {JobStatus.FAILED, JobStatus.CANCELLED}


class IllegalTransition(Exception):
    """An event that the table does not allow in this state. The job is unchanged."""

    def __init__(self, job: Job, event: JobEvent) -> None:
        super().__init__(f"{type(event).__name__} is not allowed for a {job.status} job")
        self.job = job
        self.event = event


class CancelAnswer(StrEnum):
    """The effect of a cancel request in the job's current state."""

    CANCEL_NOW = "cancel_now"  # no engine has it: the job becomes cancelled in the same transaction
    ASK_ENGINE = "ask_engine"  # an attempt is in flight: whoever drives the engine cancels and verifies
    ALREADY_CANCELLED = "already_cancelled"
    TOO_LATE = "too_late"


def decide_cancel(job: Job) -> CancelAnswer:
    match job.status:
        case JobStatus.CANCELLED:
            return CancelAnswer.ALREADY_CANCELLED
        case JobStatus.COMPLETED | JobStatus.FAILED:
            return CancelAnswer.TOO_LATE
        case JobStatus.BLOCKED | JobStatus.QUEUED | JobStatus.RUNNING:
            return CancelAnswer.ASK_ENGINE if job.is_claimed else CancelAnswer.CANCEL_NOW
        case _:
            assert_never(job.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Which jobs, newest first. Times are epoch milliseconds; both ends included; no `statuses`
    or `ids` means all.

    `retried`: whether another job retries it; None: either.
    """

    statuses: Collection[JobStatus] = ()
    ids: Collection[JobId] = ()
    client: ClientId | None = None
    batch: BatchId | None = None
    engine: EngineId | None = None
    failure_kind: FailureKind | None = None
    retried: bool | None = None
    id_start: str | None = None
    batch_start: str | None = None
    tag: tuple[str, str] | None = None
    created_after: int | None = None
    created_before: int | None = None
    limit: int = 50
    cursor: str | None = None
