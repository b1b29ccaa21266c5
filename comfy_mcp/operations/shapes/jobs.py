"""Results of the operations on workflows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Literal, assert_never

from pydantic import Field

from comfy_mcp.operations.shapes.base import (
    NextStep,
    OutputKindName,
    Part,
    PriorityName,
    Result,
    StatusName,
    Text,
)

NAMED = 5
"""Outputs that the line about a finished workflow names."""


class OutputItem(Part):
    """One output. `url` is its path on the HTTP sidecar, `uri` its MCP resource, `path` the file on this
    machine where the caller can read it, `link` an absolute URL that needs no key for a day. `unstated`:
    members that a brief state of its workflow does not repeat."""

    entry: ClassVar[frozenset[str]] = frozenset({"output_id", "filename", "type", "created_at", "content"})
    unstated: ClassVar[frozenset[str]] = frozenset(
        {"workflow_id", "created_at", "url", "uri", "subfolder", "folder", "media_type"}
    )

    output_id: str
    filename: Text
    workflow_id: str
    type: OutputKindName
    size: int | None
    created_at: int
    url: str
    uri: str
    subfolder: Text = ""
    folder: str = "output"
    node_id: Text | None = None
    media_type: str | None = None
    path: Text | None = Field(default=None, exclude_if=lambda path: path is None)
    link: str | None = Field(default=None, exclude_if=lambda link: link is None)
    content: Text | None = Field(
        default=None, description="The text, for text outputs; cut at 16,384 characters, or earlier in lists"
    )

    def text(self) -> str:
        size = f", {self.size} bytes" if self.size is not None else ""
        where = f" at {self.path or self.link}" if self.path or self.link else ""
        return f"{self.type} {self.filename or 'text'} ({self.output_id}{size}){where}"


class FailureItem(Part):
    kind: str
    message: Text
    node_id: Text | None = None
    node_type: Text | None = None

    def text(self) -> str:
        where = f" in node {self.node_id} ({self.node_type})" if self.node_id else ""
        return f"{self.kind}{where}: {self.message}"


class AttemptItem(Part):
    """One submission to an engine. `outcome` is "active" until it ends. The list of a retry begins with the
    attempts of the workflow that it retries."""

    workflow_id: str
    attempt: int
    engine: str
    prompt_id: str
    claimed_time: int
    end_time: int | None
    outcome: Literal["active", "requeued", "completed", "failed", "cancelled"]
    reason: Text | None


class EngineRoomItem(Part):
    """`free_bytes` is the memory that the engine could use: its device's, without what other programs use."""

    engine: Text
    free_bytes: int
    total_bytes: int


def _unknown(value: object) -> bool:
    return value is None


class WaitingForItem(Part):
    """Why a queued workflow waits. `vram`: `free_bytes` is the most that one of the engines has. `engine`: no
    engine can run it now; `message` has the cause and the fix. `parent`: others have to end first. `turn`:
    others are ahead of it, `yours`, those of `others`, and `foreign` ones, given to ComfyUI itself;
    `start_ms` is the time until it may start, where that is known. `quota`: its client is at a limit."""

    reason: Literal["vram", "engine", "parent", "turn", "quota"]
    message: Text
    since: int | None = None
    need_bytes: int | None = None
    free_bytes: int | None = None
    engines: list[EngineRoomItem] = Field(default_factory=list)
    yours: int | None = Field(default=None, exclude_if=_unknown)
    others: int | None = Field(default=None, exclude_if=_unknown)
    foreign: int | None = Field(default=None, exclude_if=_unknown)
    start_ms: int | None = Field(default=None, exclude_if=_unknown)


class SilenceItem(Part):
    """An engine that has a workflow and does not answer. `since` is when it last did, in epoch ms."""

    message: Text
    since: int
    cause: Text | None = None


class WorkflowResult(Result):
    """A job's state, or the combined one of several: then `workflows` has each id with its status. `batch` is
    the id of all that came with one submit, `after` the workflows that it waits for, or waited for. `eta_ms`
    is the remaining time, None if unknown.

    The deadlines are those of the current wait or run. `attempts` are present if requested. The GPU use is
    known at the end, if the GPU is on the machine of the driving process. `cost`: at a service, if its price
    is set; what is reserved, until the end. `tags`: names and values of the client's. `node_count` is for
    surfaces whose contract has it.
    """

    entry: ClassVar[frozenset[str]] = frozenset(
        {
            "workflow_id",
            "name",
            "status",
            "client",
            "created_time",
            "queue_position",
            "progress",
            "output_count",
            "error",
            "batch",
            "waiting_for",
        }
    )

    workflow_id: str
    name: Text | None = None
    status: StatusName
    queue_position: int | None
    progress: float
    current_node: Text | None
    current_node_id: Text | None = None
    start_time: int | None
    completion_time: int | None
    outputs: list[OutputItem]
    error: Text | None
    failure: FailureItem | None
    priority: PriorityName
    client: Text
    engine: str | None
    attempt: int
    created_time: int
    output_count: int = 0
    node_count: int = Field(default=0, exclude=True)
    eta_ms: int | None = None
    eta_range_ms: list[int] | None = None
    cancel_requested: bool = False
    cancelled_by: Text | None = None
    cancel_reason: Text | None = None
    warnings: list[Text] = Field(default_factory=list)
    queue_deadline: int | None = None
    run_deadline: int | None = None
    retry_of: str | None = None
    retried_by: str | None = None
    attempts: list[AttemptItem] | None = None
    gpu_seconds: float | None = None
    cost: float | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    peak_vram_bytes: int | None = None
    waiting_for: WaitingForItem | None = None
    silence: SilenceItem | None = None
    batch: str | None = None
    after: list[str] = Field(default_factory=list)
    workflows: dict[str, StatusName] = Field(default_factory=dict)
    saved: list[Text] = Field(default_factory=list, exclude_if=lambda saved: not saved)
    next_step: NextStep | None = None

    def text(self) -> str:
        head = f"Workflow {self.workflow_id}{f' ({self.name})' if self.name else ''}: {self.status}"
        said = self.warnings if self.status not in {"queued", "running"} else ()  # the submit has said them
        warned = f" Warning: {' '.join(said)}" if said else ""
        why = (
            f" ({self.waiting_for.message.rstrip('.')})"
            if self.waiting_for and self.status != "queued"
            else ""
        )
        each = (
            f" Of {len(self.workflows)} workflows: {counted(self.workflows)}{why}." if self.workflows else ""
        )
        said_of_all = f"{head}{self._facts()}.{each}{saved_as(self.saved)} {self.next_step or ''}"
        return said_of_all.strip() + warned

    def _left(self) -> str:
        return about(self.eta_ms or 0, self.eta_range_ms or (0, 0))

    def _cancel(self) -> str:
        who = f" by {self.cancelled_by}" if self.cancelled_by else ""
        return f"{who}: {self.cancel_reason.rstrip('.')}" if self.cancel_reason else who

    def waiting(self) -> str:
        """What a queued job waits behind and for: `, position 2, held: …`, or nothing."""
        place = f", position {self.queue_position}" if self.queue_position else ""
        if self.waiting_for is None:
            return place
        why = self.waiting_for.message.rstrip(".")
        match self.waiting_for.reason:
            case "parent":
                return f". {why}"
            case "turn":
                return f"{place}. {why}"
            case _:
                return f"{place}, held: {why}"

    def brief(self) -> str:
        """One entry of a list of workflows."""
        name = f" ({self.name})" if self.name else ""
        kind = f" ({self.failure.kind})" if self.failure else ""
        batch = f", batch {self.batch}" if self.batch else ""
        ahead = f" ({self.waiting_for.message.rstrip('.')})" if self.waiting_for else ""
        return (
            f"{self.workflow_id}{name} {self.status}{kind}{ahead}, {_moment(self.created_time)[:-3]}{batch}"
        )

    def _facts(self) -> str:
        match self.status:
            case "queued":
                silent = f". {self.silence.message.rstrip('.')}" if self.silence else ""
                return f"{self.waiting()}{_until('must start', self.queue_deadline)}{silent}"
            case "running":
                node = f" at {self.current_node}" if self.current_node else ""
                eta = f", {self._left()} left" if self.eta_ms is not None else ""
                silent = f". {self.silence.message.rstrip('.')}" if self.silence else ""
                return f", {self.progress:.0f} %{node}{eta}{_until('must end', self.run_deadline)}{silent}"
            case "completed":
                named = ", ".join(item.text() for item in self.outputs[:NAMED])
                count = max(self.output_count, len(self.outputs))
                more = f" and {count - NAMED} more" if count > NAMED else ""
                return f" with {count} output(s): {named}{more}" if named else " without outputs"
            case "failed":
                return f" — {self.failure.text() if self.failure else self.error}"
            case "cancelled":
                return self._cancel()
            case _:
                assert_never(self.status)


def about(left_ms: int, span_ms: Sequence[int] = ()) -> str:
    """`about 40 s (30 to 56)`, `about 13 min (10 to 18)`, `about 2.5 h (1.9 to 3.5)`."""
    unit, unit_ms = next((name, ms) for name, ms in _UNITS if left_ms >= 2 * ms or name == "s")
    digits = 1 if unit == "h" else 0
    low, left, high = (
        f"{each / unit_ms:.{digits}f}"
        for each in (min(span_ms, default=left_ms), left_ms, max(span_ms, default=left_ms))
    )
    span = f" ({low} to {high})" if low != high else ""
    return f"about {left if left_ms >= unit_ms else 1} {unit}{span}"


_UNITS = ("h", 3_600_000), ("min", 60_000), ("s", 1000)


def counted(workflows: Mapping[str, StatusName]) -> str:
    """`2 completed, 1 running`."""
    counts = Counter(workflows.values())
    return ", ".join(f"{counts[status]} {status}" for status in _ORDER if counts[status])


_ORDER: Sequence[StatusName] = ("completed", "failed", "cancelled", "running", "queued")


def saved_as(paths: Sequence[str]) -> str:
    """The files that were written, in a sentence."""
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return f" Saved as {', '.join(paths[:NAMED])}{more}." if paths else ""


def _until(what: str, deadline_ms: int | None) -> str:
    return "" if deadline_ms is None else f", {what} by {_moment(deadline_ms)} UTC"


def _moment(epoch_ms: int) -> str:
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


class CancelResult(Result):
    """`status` is the current state; `cancel_requested`: the engine has not stopped yet. Of several,
    `cancelled` counts those that this call ended and `stopping` those that an engine has not stopped yet."""

    workflow_id: str | None = None
    status: StatusName
    cancel_requested: bool
    cancelled: int | None = None
    stopping: int | None = None
    next_step: NextStep | None = None

    def text(self) -> str:
        said = f"Workflow {self.workflow_id} is {self.status}."
        if self.cancelled is not None:
            slow = f", {self.stopping} still stop at their next node or step" if self.stopping else ""
            said = f"{self.cancelled} workflow(s) cancelled{slow}."
        return f"{said} {self.next_step or ''}".strip()


class PriorityResult(Result):
    """`changed`: how many wait with the new priority because of this call; those that an engine has, or that
    have ended, stay as they are."""

    workflow_id: str
    status: StatusName
    priority: PriorityName
    changed: int
    queue_position: int | None
    next_step: NextStep | None = None

    def text(self) -> str:
        place = f", position {self.queue_position}" if self.queue_position else ""
        said = f"Workflow {self.workflow_id} is {self.status}{place}."
        how = f"Priority {self.priority}, {self.changed} changed"
        why = "" if self.changed or self.status == "queued" else ": only those that wait can be changed"
        return f"{said} {how}{why}. {self.next_step or ''}".strip()


class WorkflowsResult(Result):
    workflows: list[WorkflowResult]
    next_cursor: str | None = None

    def text(self) -> str:
        shown = "; ".join(item.brief() for item in self.workflows)
        more = more_pages(self.next_cursor)
        return (
            f"{len(self.workflows)} workflow(s), newest first (UTC): {shown}.{more}"
            if shown
            else "No workflows."
        )


def more_pages(cursor: str | None) -> str:
    """How a list goes on."""
    return f' For more, call again with cursor="{cursor}".' if cursor else ""


class ForeignItem(Part):
    """A prompt that somebody submitted in ComfyUI itself. The bridge never changes it."""

    engine: str
    prompt_id: Text
    state: Literal["running", "pending"]


class QuotaItem(Part):
    """What the caller has and may have (None: as much as there is). `gpu_seconds`: used today, until
    `day_ends`, epoch ms."""

    queued: int
    running: int
    gpu_seconds: float
    day_ends: int
    max_queued: int | None
    max_running: int | None
    max_gpu_seconds: float | None


class QueueResult(Result):
    """`queued` is in run order; `blocked` wait for other workflows and have no turn. Counts cover everything,
    the lists are bounded. `quota`: None for a caller without a key of its own.

    `foreign_count` counts the engines' prompts that were not submitted here; queue positions include them.
    """

    running: list[WorkflowResult]
    queued: list[WorkflowResult]
    blocked: list[WorkflowResult] = Field(default_factory=list)
    counts: dict[str, int]
    foreign: list[ForeignItem] = Field(default_factory=list)
    foreign_count: int = 0
    quota: QuotaItem | None = None

    def text(self) -> str:
        ours = f"{self.counts.get('running', 0)} running, {self.counts.get('queued', 0)} queued"
        if self.counts.get("blocked"):
            ours += f", {self.counts['blocked']} wait for others"
        return (
            f"{ours}, {self.foreign_count} submitted in ComfyUI itself." if self.foreign_count else f"{ours}."
        )
