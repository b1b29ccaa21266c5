"""What goes into an operation and what comes out, in the v1 wire's shapes.

Inputs are flat and take snake_case or the wire's camelCase. Results are camelCase on the wire; `text()` is
the one line that an agent reads, and says what to do next. Times are epoch milliseconds, `progress` is
0 to 100, sizes are bytes; None means "not known" or "not yet".
"""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, assert_never

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

StatusName = Literal["queued", "running", "completed", "failed", "cancelled"]
PriorityName = Literal["low", "normal", "high"]
LaneName = Literal["local", "salad"]
FailureKindName = Literal[
    "validation",
    "node_error",
    "oom",
    "missing_model",
    "engine_lost",
    "cancelled_externally",
    "timeout",
    "internal",
]
OutputKindName = Literal["image", "video", "audio", "text", "latent", "3d", "file"]

WorkflowIdField = Annotated[
    str,
    Field(
        validation_alias=AliasChoices("workflow_id", "workflowId"),
        min_length=1,
        max_length=64,
        description="Id from submit_workflow",
    ),
]
MAX_INTEGER = 2**53 - 1
"""The greatest that JSON carries everywhere (RFC 8259, 6); databases take it too."""

LimitField = Annotated[int, Field(ge=1, le=200)]
SinceField = Annotated[int | None, Field(ge=0, le=MAX_INTEGER, description="Epoch ms")]
CursorField = Annotated[str | None, Field(max_length=512)]


def _timeout(name: str, description: str) -> Any:
    """Seconds; None: what the settings say."""
    return Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        validation_alias=AliasChoices(name, to_camel(name)),
        description=description,
    )


class Params(BaseModel):
    """Base of all inputs. Unknown keys are tolerated, as the v1 contract says."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Part(BaseModel):
    """Base of everything that goes out: camelCase on the wire."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _only_whole_characters(cls, value: object) -> object:
        """Half a surrogate pair (in a node's title, say) is no text: no JSON can be made of it."""
        if isinstance(value, str):
            return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            return [item.encode("utf-8", "replace").decode("utf-8") for item in value]
        return value


class Result(Part):
    """Base of all results. `unlisted` members are left out of a tool's schema: each byte there is paid for in
    every agent's context."""

    unlisted: ClassVar[frozenset[str]] = frozenset()

    def text(self) -> str:
        """One line for an agent."""
        raise NotImplementedError


# ------------------------------------------------------------------------------------------ parameters


class NoParams(Params):
    pass


class SubmitParams(Params):
    workflow: dict[str, Any] | str | None = Field(
        default=None, description="ComfyUI graph in API format: {nodeId: {class_type, inputs}}"
    )
    path: str | None = Field(
        default=None, max_length=4096, description="Or a file with it, under the allowed roots"
    )
    priority: PriorityName = "normal"
    gpu: LaneName = "local"
    idempotency_key: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        validation_alias=AliasChoices("idempotency_key", "idempotencyKey"),
        description="Equal keys are one submit",
    )
    queue_timeout_s: float | None = _timeout("queue_timeout_s", "Fail if not started in time")
    run_timeout_s: float | None = _timeout("run_timeout_s", "Stop and fail if it runs longer")


class WorkflowParams(Params):
    workflow_id: WorkflowIdField


class StatusParams(WorkflowParams):
    attempts: bool = Field(default=False, description="Also what was tried")


class WaitParams(Params):
    workflow_id: WorkflowIdField
    timeout_s: float | None = Field(
        default=None,
        ge=0,
        validation_alias=AliasChoices("timeout_s", "timeoutS"),
        description="Default 45; then ask again",
    )
    cancel_on_disconnect: bool = Field(
        default=False,
        validation_alias=AliasChoices("cancel_on_disconnect", "cancelOnDisconnect"),
        description="End the job if this call is dropped",
    )


class CancelParams(Params):
    workflow_id: WorkflowIdField
    reason: str | None = Field(default=None, max_length=200)


class UploadParams(Params):
    filename: str = Field(min_length=1, max_length=255, description="Name to keep it under")
    subfolder: str = Field(default="", max_length=255, description="Below the engine's input folder")
    overwrite: bool = Field(
        default=False, description="Replace a file of that name; else other bytes get another name"
    )


class ListModelsParams(Params):
    type: str | None = Field(
        default=None,
        max_length=128,
        description="checkpoints, loras, vae, …; omit for all",
    )
    search: str | None = Field(default=None, max_length=200, description="Part of the name")
    limit: LimitField = 50
    cursor: CursorField = None


class ListOutputsParams(Params):
    workflow_id: str | None = Field(
        default=None, validation_alias=AliasChoices("workflow_id", "workflowId"), max_length=64
    )
    type: OutputKindName | None = None
    since: SinceField = None
    limit: LimitField = 20
    cursor: CursorField = None


class ListWorkflowsParams(Params):
    status: StatusName | None = None
    failure_kind: FailureKindName | None = Field(
        default=None,
        validation_alias=AliasChoices("failure_kind", "failureKind"),
    )
    client: str | None = Field(default=None, max_length=128)
    since: SinceField = None
    limit: LimitField = 50
    cursor: CursorField = None


class OutputParams(Params):
    output_id: str = Field(
        validation_alias=AliasChoices("output_id", "outputId"),
        min_length=1,
        max_length=64,
        description="Id from list_outputs or a finished workflow",
    )


class ViewOutputParams(OutputParams):
    max_px: int | None = Field(
        default=None,
        ge=16,
        le=4096,
        validation_alias=AliasChoices("max_px", "maxPx"),
        description="Longest side",
    )


# --------------------------------------------------------------------------------------------- results


class OutputItem(Part):
    """One output. `url` is its path on the HTTP sidecar, `uri` its MCP resource."""

    output_id: str
    filename: str
    workflow_id: str
    type: OutputKindName
    size: int | None
    created_at: int
    url: str
    uri: str
    subfolder: str = ""
    folder: str = "output"
    node_id: str | None = None
    media_type: str | None = None
    content: str | None = Field(default=None, description="The text itself, for text outputs")

    def text(self) -> str:
        size = f", {self.size} bytes" if self.size is not None else ""
        return f"{self.type} {self.filename or 'text'} ({self.output_id}{size})"


class FailureItem(Part):
    kind: str
    message: str
    node_id: str | None = None
    node_type: str | None = None

    def text(self) -> str:
        where = f" in node {self.node_id} ({self.node_type})" if self.node_id else ""
        return f"{self.kind}{where}: {self.message}"


class AttemptItem(Part):
    """One submission to an engine. `outcome` "active": it is under way. A retry's list begins with the
    attempts of the workflow that it retries."""

    workflow_id: str
    attempt: int
    engine: str
    prompt_id: str
    claimed_time: int
    end_time: int | None
    outcome: Literal["active", "requeued", "completed", "failed", "cancelled"]
    reason: str | None


class WorkflowResult(Result):
    """A job's state. `eta_ms` is the remaining time, None without evidence.

    The deadlines are those of the present wait or run. `attempts` only where they were asked for. What it
    took of the GPU is known at the end, where that is on the machine of the process that drove it.
    """

    unlisted = frozenset({"priority", "client", "engine", "attempt", "created_time"})

    workflow_id: str
    status: StatusName
    queue_position: int | None
    progress: float
    current_node: str | None
    current_node_id: str | None = None
    start_time: int | None
    completion_time: int | None
    outputs: list[OutputItem]
    error: str | None
    failure: FailureItem | None
    priority: PriorityName
    client: str
    engine: str | None
    attempt: int
    created_time: int
    eta_ms: int | None = None
    cancel_requested: bool = False
    warnings: list[str] = []
    queue_deadline: int | None = None
    run_deadline: int | None = None
    retry_of: str | None = None
    attempts: list[AttemptItem] | None = None
    gpu_seconds: float | None = None
    peak_vram_bytes: int | None = None
    next_step: str | None = None

    def text(self) -> str:
        head = f"Workflow {self.workflow_id}: {self.status}"
        return f"{head}{self._facts()}. {self.next_step or ''}".strip()

    def brief(self) -> str:
        return f"{self.workflow_id} {self.status}{f' ({self.failure.kind})' if self.failure else ''}"

    def _facts(self) -> str:
        match self.status:
            case "queued":
                place = f", position {self.queue_position}" if self.queue_position else ""
                return f"{place}{_until('must start', self.queue_deadline)}"
            case "running":
                node = f" at {self.current_node}" if self.current_node else ""
                eta = f", about {max(1, round(self.eta_ms / 1000))} s left" if self.eta_ms is not None else ""
                return f", {self.progress:.0f} %{node}{eta}{_until('must end', self.run_deadline)}"
            case "completed":
                named = ", ".join(item.text() for item in self.outputs[:5])
                more = f" and {len(self.outputs) - 5} more" if len(self.outputs) > 5 else ""
                return f" with {len(self.outputs)} output(s): {named}{more}" if named else " without outputs"
            case "failed":
                return f" — {self.failure.text() if self.failure else self.error}"
            case "cancelled":
                return ""
            case _:
                assert_never(self.status)


def _until(what: str, deadline_ms: int | None) -> str:
    if deadline_ms is None:
        return ""
    return f", {what} by {datetime.fromtimestamp(deadline_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


class SubmitResult(Result):
    workflow_id: str
    status: StatusName
    queue_position: int
    warnings: list[str] = []
    next_step: str | None = None

    def text(self) -> str:
        warned = f" Warning: {' '.join(self.warnings)}" if self.warnings else ""
        return f"Queued as {self.workflow_id}, position {self.queue_position}. {self.next_step or ''}{warned}"


class RetryResult(SubmitResult):
    """The new job; the old one stays as it is."""

    retry_of: str


class CancelResult(Result):
    """`status` is what is true now; `cancel_requested` says that the engine has been asked."""

    workflow_id: str
    status: StatusName
    cancel_requested: bool
    next_step: str | None = None

    def text(self) -> str:
        return f"Workflow {self.workflow_id} is {self.status}. {self.next_step or ''}".strip()


class ModelItem(Part):
    name: str
    type: str
    size: int | None
    hash: str | None


class UploadResult(Result):
    """An input file on the engine. `name` is the engine's, and the one to use: it may be another."""

    name: str
    subfolder: str
    type: str

    def text(self) -> str:
        return f"Uploaded as {f'{self.subfolder}/' if self.subfolder else ''}{self.name}."


class ModelsResult(Result):
    models: list[ModelItem]
    types: list[str]
    next_cursor: str | None = None
    total: int | None = None

    def text(self) -> str:
        shown = ", ".join(item.name for item in self.models[:10])
        more = " …" if len(self.models) > 10 or self.next_cursor else ""
        count = self.total if self.total is not None else len(self.models)
        return f"{count} model(s): {shown}{more}" if shown else f"No models. Types: {', '.join(self.types)}."


class OutputsResult(Result):
    outputs: list[OutputItem]
    next_cursor: str | None = None

    def text(self) -> str:
        shown = ", ".join(item.text() for item in self.outputs[:10])
        more = " … (pass next_cursor as cursor)" if self.next_cursor else ""
        return f"{len(self.outputs)} output(s), newest first: {shown}{more}" if shown else "No outputs yet."


class WorkflowsResult(Result):
    workflows: list[WorkflowResult]
    next_cursor: str | None = None

    def text(self) -> str:
        shown = "; ".join(item.brief() for item in self.workflows[:10])
        more = " … (pass next_cursor as cursor)" if self.next_cursor else ""
        return f"{len(self.workflows)} workflow(s), newest first: {shown}{more}" if shown else "No workflows."


class ForeignItem(Part):
    """A prompt that somebody gave to ComfyUI itself. It is never touched."""

    engine: str
    prompt_id: str
    state: Literal["running", "pending"]


class QueueResult(Result):
    """`queued` is in run order. Counts cover everything, the lists are bounded.

    `foreign_count` counts what the engines have that was not submitted here; places count it too.
    """

    running: list[WorkflowResult]
    queued: list[WorkflowResult]
    counts: dict[str, int]
    foreign: list[ForeignItem] = []
    foreign_count: int = 0

    def text(self) -> str:
        ours = f"{self.counts.get('running', 0)} running, {self.counts.get('queued', 0)} queued"
        return (
            f"{ours}, {self.foreign_count} in ComfyUI from elsewhere." if self.foreign_count else f"{ours}."
        )


class ViewResult(Result):
    """`preview` is the image for the model to see; it does not go into the JSON."""

    output: OutputItem
    width: int | None = None
    height: int | None = None
    preview: bytes | None = Field(default=None, exclude=True, repr=False)
    preview_media_type: str | None = None
    note: str | None = None

    def text(self) -> str:
        shown = f"preview {self.width}x{self.height} of " if self.preview is not None else ""
        return f"{shown}{self.output.text()}. {self.note or ''}".strip()


class GpuMemory(Part):
    used: int | None
    total: int | None
    percent_used: float | None


class GpuProcessItem(Part):
    """`memory` None: the driver does not say (normal in containers and on Windows)."""

    pid: int
    memory: int | None


class MigItem(Part):
    """A slice of a GPU; the driver measures its memory only."""

    index: int
    name: str
    uuid: str | None
    memory: GpuMemory


class GpuItem(Part):
    """A GPU now. `engine`: the engine whose word is the only source. Clocks are MHz; `slowed_by` is what
    takes speed from it; `processes` are the greatest, `process_count` all; ECC errors: since the last load.
    """

    index: int
    name: str
    uuid: str | None = None
    state: Literal["ok", "lost", "reset_required", "failed"] = "ok"
    fault: str | None = None
    utilization: float | None
    memory: GpuMemory
    temperature: float | None
    temperature_limit: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    graphics_clock: int | None = None
    memory_clock: int | None = None
    throttle_reasons: list[str] | None = None
    slowed_by: list[str] | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    processes: list[GpuProcessItem] | None = None
    process_count: int | None = None
    mig: list[MigItem] = []
    engine: str | None = None

    def text(self) -> str:
        facts: list[str] = [] if self.state == "ok" else [self.state]
        if self.utilization is not None:
            facts.append(f"{self.utilization:.0f} %")
        if self.memory.used is not None and self.memory.total is not None:
            facts.append(f"{self.memory.used / 2**30:.1f} of {self.memory.total / 2**30:.1f} GiB")
        if self.temperature is not None:
            facts.append(f"{self.temperature:.0f} °C")
        return f"{self.name} ({', '.join(facts)})" if facts else self.name


class EngineVramItem(Part):
    """A device by its engine's /system_stats. `torch_total` is what its torch holds of it, `torch_free` what
    is not in use of that. `gpu`: its index among the GPUs, where that is certain."""

    engine: str
    name: str
    type: str
    index: int | None
    vram_total: int | None
    vram_free: int | None
    torch_total: int | None
    torch_free: int | None
    gpu: int | None


class GoneGpuItem(Part):
    name: str
    uuid: str


class GpuResult(Result):
    """`gone` are GPUs that the driver has shown before and shows no more."""

    available: bool
    source: str
    gpus: list[GpuItem]
    reason: str | None = None
    engines: list[EngineVramItem] = []
    gone: list[GoneGpuItem] = []
    problems: list[str] = []
    sampled_at: int | None = None

    def text(self) -> str:
        shown = ", ".join(item.text() for item in self.gpus) or f"No GPU: {self.reason or 'none reported'}"
        return " ".join([f"{shown}.", *self.problems]) if self.problems else shown


class EngineItem(Part):
    """`driven_by`: "this process", "another process", or None (nobody: its jobs wait)."""

    id: str
    url: str
    up: bool
    version: str | None = None
    is_comfyui: bool | None = None
    queue_remaining: int | None = None
    driven_by: str | None = None
    error: str | None = None

    def text(self) -> str:
        return f"{self.id} {'up' if self.up else 'down'}" + (f" ({self.error})" if self.error else "")


class StoreItem(Part):
    path: str
    driver: str
    sqlite_version: str
    journal_mode: str
    schema_revision: str
    set_aside: str | None = None


class SystemResult(Result):
    version: str
    client: str
    engines: list[EngineItem]
    jobs: dict[str, int]
    gpu: GpuResult
    store: StoreItem
    problems: list[str] = []

    def text(self) -> str:
        engines = ", ".join(item.text() for item in self.engines)
        jobs = f"{self.jobs.get('running', 0)} running, {self.jobs.get('queued', 0)} queued"
        fix = f" Fix: {' '.join(self.problems)}" if self.problems else ""
        return f"Engines: {engines}. Jobs: {jobs}. GPU: {self.gpu.text()}.{fix}"


class OutputContentResult(Result):
    """The bytes of an output, bounded by the settings."""

    output: OutputItem
    media_type: str
    data: bytes = Field(exclude=True, repr=False)

    def text(self) -> str:
        return self.output.text()
