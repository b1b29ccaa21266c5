"""The events of jobs and of engines, as closed unions of frozen dataclasses.

JobEvent is what the store keeps, in order, with a `seq`: the log that every surface replays.
EngineEvent is what a place reports from one engine; `driving` turns it into JobEvents.
All times (`at`) are epoch milliseconds, given by the caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar

from comfy_mcp.domain.catalog import OutputFile
from comfy_mcp.domain.chains import Parent
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import BatchId, ClientId, EngineId, JobId, NodeId, PromptId
from comfy_mcp.domain.spending import Spend
from comfy_mcp.domain.vram import WaitingFor
from comfy_mcp.domain.webhooks import Webhook


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """Smaller runs first."""
        return _RANKS[self]


_RANKS: Mapping[str, int] = MappingProxyType({"high": 0, "normal": 1, "low": 2})


class FailureKind(StrEnum):
    """Why a job failed. A failed execution is data, not an exception."""

    VALIDATION = "validation"
    NODE_ERROR = "node_error"
    OOM = "oom"
    MISSING_MODEL = "missing_model"
    MISSING_INPUT = "missing_input"
    ENGINE_LOST = "engine_lost"
    CANCELLED_EXTERNALLY = "cancelled_externally"
    TIMEOUT = "timeout"
    ENGINE_BAD_ANSWER = "engine_bad_answer"
    INTERNAL = "internal"
    PARENT_FAILED = "parent_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailure:
    """`message` is short and safe to show; `detail` may be kilobytes (tracebacks, inputs)."""

    kind: FailureKind
    message: str
    node_id: NodeId | None = None
    node_type: str | None = None
    detail: str | None = None


# ---------------------------------------------------------------------------- what happened to a job


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQueued:
    """`queue_timeout_ms` bounds each wait for a start, `run_timeout_ms` each run. `retry_of`: the failed or
    cancelled job that this one submits again. `shape`: see domain/vram.py. `name` is for people. `after`: it
    waits for these first (domain/chains.py). `webhook`: where its events are sent. `spend`: what it may cost
    at a service. `tags`: the client's own words, each a name and a value."""

    type: ClassVar[str] = "queued"
    job_id: JobId
    at: int
    client: ClientId
    lane: str
    priority: Priority
    node_count: int
    warnings: tuple[str, ...] = ()
    queue_timeout_ms: int | None = None
    run_timeout_ms: int | None = None
    retry_of: JobId | None = None
    shape: str | None = None
    batch: BatchId | None = None
    name: str | None = None
    after: tuple[Parent, ...] = ()
    webhook: Webhook | None = None
    spend: Spend | None = None
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWaiting:
    """Why a queued job is held. None: it waits for its turn only, as one does from when its parents ended."""

    type: ClassVar[str] = "waiting"
    job_id: JobId
    at: int
    waiting_for: WaitingFor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobClaimed:
    """A driver took the job for an engine and chose its prompt_id, before the POST."""

    type: ClassVar[str] = "claimed"
    job_id: JobId
    at: int
    attempt: int
    engine: EngineId
    prompt_id: PromptId


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted:
    type: ClassVar[str] = "started"
    job_id: JobId
    at: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgressed:
    """`progress` is the fraction of the whole graph in [0, 1]; `eta_ms` is remaining milliseconds."""

    type: ClassVar[str] = "progress"
    job_id: JobId
    at: int
    attempt: int
    progress: float
    node_id: NodeId | None = None
    node_title: str | None = None
    eta_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequeued:
    """The engine lost the prompt, ran out of memory, or refused the graph that another engine may run
    (`cause` validation); the job waits for another attempt.

    `gpu_use`, here and in the final events, is this attempt's; None: it was not measured. `ran_ms`: how long
    it ran, where the place said so.
    """

    type: ClassVar[str] = "requeued"
    job_id: JobId
    at: int
    attempt: int
    reason: str
    cause: FailureKind = FailureKind.ENGINE_LOST
    gpu_use: GpuUse | None = None
    ran_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """`by`: the client that asked, and from where."""

    type: ClassVar[str] = "cancel_requested"
    job_id: JobId
    at: int
    reason: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityChanged:
    """Of a job that no engine has. `by`: the client that asked, and from where."""

    type: ClassVar[str] = "priority"
    job_id: JobId
    at: int
    priority: Priority
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCompleted:
    """`warnings`: what the run made and the bridge lost. They join those of the submit."""

    type: ClassVar[str] = "completed"
    job_id: JobId
    at: int
    attempt: int
    output_count: int = 0
    gpu_use: GpuUse | None = None
    ran_ms: int | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed:
    """`attempt` is the job's attempt count at the time: 0 if it never reached an engine."""

    type: ClassVar[str] = "failed"
    job_id: JobId
    at: int
    attempt: int
    failure: JobFailure
    output_count: int = 0
    gpu_use: GpuUse | None = None
    ran_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancelled:
    type: ClassVar[str] = "cancelled"
    job_id: JobId
    at: int
    attempt: int
    output_count: int = 0
    gpu_use: GpuUse | None = None
    ran_ms: int | None = None


JobEvent = (
    JobQueued
    | JobWaiting
    | JobClaimed
    | JobStarted
    | JobProgressed
    | JobRequeued
    | CancelRequested
    | PriorityChanged
    | JobCompleted
    | JobFailed
    | JobCancelled
)

FINAL_EVENTS = (JobCompleted, JobFailed, JobCancelled)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event with its place in the log. `seq` grows over all jobs; gaps are normal.

    `volatile`: a step of progress, which the log does not keep. Its `seq` is that of the newest event of the
    log before it, so that a reader who continues from there misses nothing.
    """

    seq: int
    event: JobEvent
    volatile: bool = False

    @property
    def is_final(self) -> bool:
        return isinstance(self.event, FINAL_EVENTS)


# ---------------------------------------------------------------------------- what an engine said


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConnected:
    """The event stream is open. Nothing is replayed, so the reader must look its prompts up."""

    sid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDisconnected:
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineWithoutEvents:
    """The engine answers requests and gives no event stream: its prompts have to be looked up, again and
    again, until EngineConnected or EngineDisconnected."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRemaining:
    """`status`: how many prompts the engine has, whoever sent them."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptStarted:
    prompt_id: PromptId


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesCached:
    prompt_id: PromptId
    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted:
    """`node` is the display node: the one in the submitted graph."""

    prompt_id: PromptId
    node: NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProgressed:
    """Steps inside a node: `value` of `maximum`."""

    prompt_id: PromptId
    node: NodeId
    value: float
    maximum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeExecuted:
    """An output node is done; for cached nodes the engine repeats the old file names."""

    prompt_id: PromptId
    node: NodeId
    outputs: tuple[OutputFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSucceeded:
    prompt_id: PromptId


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFailed:
    prompt_id: PromptId
    failure: JobFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptInterrupted:
    prompt_id: PromptId


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEnded:
    """`executing: null`: the run is over and its history entry exists (seen 200 of 200 times)."""

    prompt_id: PromptId


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewFrame:
    """A binary preview. `prompt_id` and `node` are None in frames of the old kind (event 1)."""

    prompt_id: PromptId | None
    node: NodeId | None
    media_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameLost:
    """A frame could not be decoded; its event and its prompt are unknown."""

    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownMessage:
    """Something newer than this code. Counted, otherwise ignored."""

    type: str


EngineEvent = (
    EngineConnected
    | EngineDisconnected
    | EngineWithoutEvents
    | QueueRemaining
    | PromptStarted
    | NodesCached
    | NodeStarted
    | NodeProgressed
    | NodeExecuted
    | PromptSucceeded
    | PromptFailed
    | PromptInterrupted
    | PromptEnded
    | PreviewFrame
    | FrameLost
    | UnknownMessage
)
