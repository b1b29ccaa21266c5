"""What goes into an operation: flat, in snake_case or the wire's camelCase."""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic.alias_generators import to_camel

from comfy_mcp.domain.batches import MAX_BATCH
from comfy_mcp.domain.chains import MAX_PARENTS
from comfy_mcp.domain.parameter_values import MAX_SET
from comfy_mcp.operations.shapes.base import (
    FREE,
    CursorField,
    FailureKindName,
    FieldsField,
    LaneName,
    LimitField,
    OutputKindName,
    Params,
    PriorityName,
    SinceField,
    StatusFilterName,
    WorkflowIdField,
    WorkflowIdsField,
    at_most,
    joined,
    one_line,
)
from comfy_mcp.operations.shapes.webhooks import SubmitWebhookField


def _timeout(name: str, description: str) -> Any:
    """Seconds; None: what the settings say."""
    return Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        validation_alias=AliasChoices(name, to_camel(name)),
        description=description,
    )


def _save_to(**words: Any) -> Any:
    return Field(
        default=None,
        min_length=1,
        max_length=4096,
        validation_alias=AliasChoices("save_to", "saveTo"),
        **words,
    )


class NoParams(Params):
    pass


def _idempotency_key() -> Any:
    return Field(
        default=None,
        min_length=1,
        max_length=255,
        validation_alias=AliasChoices("idempotency_key", "idempotencyKey"),
        title="Submits with equal keys are one.",
    )


TagName = Annotated[str, Field(min_length=1, max_length=64, pattern="^[^=]+$")]
TagValue = Annotated[str, Field(max_length=512)]
Tags = Annotated[dict[TagName, TagValue], Field(max_length=16)]


class SubmitParams(Params):
    unlisted = frozenset({"extra_data", "gpu", "not_on", "after_any", "webhook", "tags"})
    local = frozenset({"path", "save_to"})

    workflow: Annotated[str | dict[str, Any] | None, FREE] = Field(
        default=None,
        description="Name from find_workflow, job:ID, or a graph: API format {nodeId: {class_type, inputs}} "
        "or UI format",
    )
    inputs: Annotated[dict[str, Any] | None, at_most(MAX_SET)] = Field(
        default=None, description='Values by name: {"prompt": "a fox", "seed": 7, "6.text": "…"}'
    )
    name: str | None = Field(default=None, max_length=100, title="What people call the workflow.")
    path: str | None = Field(
        default=None, max_length=4096, description="Or its file (JSON or media), in an allowed folder"
    )
    priority: PriorityName = "normal"
    gpu: LaneName = "local"
    engine: str | None = Field(default=None, max_length=128, title="Run it on this engine only.")
    labels: list[str] = Field(
        default_factory=list, max_length=16, title="Run it on an engine that has all of these labels."
    )
    not_on: list[str] = Field(
        default_factory=list,
        max_length=64,
        validation_alias=AliasChoices("not_on", "notOn"),
        title="Run it on none of these engines.",
    )
    save_to: str | None = _save_to(description="Folder or file for the outputs; a wait writes them")
    idempotency_key: str | None = _idempotency_key()
    queue_timeout_s: float | None = _timeout("queue_timeout_s", "Fail if not started within")
    run_timeout_s: float | None = _timeout("run_timeout_s", "Stop and fail if it runs longer")
    extra_data: Annotated[dict[str, Any] | None, FREE] = Field(
        default=None,
        validation_alias=AliasChoices("extra_data", "extraData"),
        title="What the engine gets beside the graph: ComfyUI's `extra_pnginfo` (nodes write it into files; "
        "the editor restores its `workflow`) and `preview_method`. A file in UI format is sent by itself.",
    )
    variations: int | None = Field(default=None, description="Copies with other seeds")
    matrix: Annotated[dict[str, Annotated[list[Any], at_most(MAX_BATCH)]] | None, at_most(MAX_SET)] = Field(
        default=None, description='All of: {"cfg": [4, 7]}'
    )
    after: list[str] = Field(
        default_factory=list, max_length=MAX_PARENTS, description="Ids that must complete first"
    )
    after_any: list[str] = Field(
        default_factory=list,
        max_length=MAX_PARENTS,
        validation_alias=AliasChoices("after_any", "afterAny"),
        title="Ids that must end first, in whatever way.",
    )
    webhook: SubmitWebhookField = Field(
        default=None,
        title="Where its events are sent, instead of to the client's webhook: a URL, or "
        '{"url": …, "events": […]}.',
    )
    tags: Tags = Field(default_factory=dict, title="Names and values of yours, by which lists find it.")
    dry_run: bool = Field(
        default=False,
        strict=True,  # "no" must never be a yes
        validation_alias=AliasChoices("dry_run", "dryRun"),
        title="Only check, and return the graph that would run; nothing is queued.",
    )

    _one_line = field_validator("name")(one_line)

    @field_validator("after", "after_any", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [each for each in value.replace(",", " ").split() if each] if isinstance(value, str) else value


class WorkflowParams(Params):
    workflow_id: WorkflowIdField


class RetryParams(WorkflowParams):
    idempotency_key: str | None = _idempotency_key()


class StatusParams(Params):
    workflow_id: WorkflowIdsField
    attempts: bool = Field(default=False, description="Include all attempts")


WAIT_DEFAULT_S = 45.0
"""MCP clients give up on a call after 60 s by default."""

WAIT_MAX_S = 600.0
"""Who waits for longer calls again: a connection that is lost meanwhile is noticed by then."""


class WaitParams(Params):
    local = frozenset({"save_to"})

    workflow_id: WorkflowIdsField
    until: Literal["all", "any"] = Field(default="all", title="Of several: until all have ended, or one.")
    timeout_s: float | None = Field(
        default=None,
        ge=0,
        validation_alias=AliasChoices("timeout_s", "timeoutS"),
        description=f"Default {WAIT_DEFAULT_S:g}; then call again",
    )
    save_to: str | None = _save_to(title="The folder or file for the outputs.")
    cancel_on_disconnect: bool = Field(
        default=False,
        validation_alias=AliasChoices("cancel_on_disconnect", "cancelOnDisconnect"),
        description="Cancel the job if this call is aborted",
    )


class CancelParams(Params):
    workflow_id: WorkflowIdsField = Field(
        validation_alias=AliasChoices("workflow_id", "workflowId", "workflow_ids", "workflowIds", "all"),
        description='Id, several, or "mine": all yours',
    )
    reason: str | None = Field(default=None, max_length=200, title="The reason; stored with the workflow.")

    _one_line = field_validator("reason")(one_line)


class PriorityParams(Params):
    workflow_id: WorkflowIdsField
    priority: PriorityName


class EngineParams(Params):
    engine: str = Field(min_length=1, max_length=128, title="The engine's id, as system_status lists it.")


class AddEngineParams(Params):
    engine: str = Field(
        min_length=1, max_length=128, pattern=r"^[^\s,=/]+$", description="A name for it", title="Its name."
    )
    url: str = Field(min_length=1, max_length=2000, description="Like http://gpu-1:8188")
    labels: tuple[str, ...] = Field(default=(), max_length=32, description="What submits may ask for")
    token: str | None = Field(default=None, max_length=4096, description="Bearer token for every request")
    headers: dict[str, str] = Field(default_factory=dict, max_length=32, description="For every request")


class UploadParams(Params):
    filename: str = Field(min_length=1, max_length=255, description="Name of the file")
    subfolder: str = Field(default="", max_length=255, description="Below the engine's input folder")
    overwrite: bool = Field(
        default=False,
        description="Replace a file with this name; otherwise a different file gets another name",
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
    fields: FieldsField = None


class ListOutputsParams(Params):
    workflow_id: str | None = Field(
        default=None,
        validation_alias=AliasChoices("workflow_id", "workflowId"),
        max_length=64,
        title="Only of this workflow.",
    )
    type: OutputKindName | None = Field(default=None, title="Only of this type.")
    since: SinceField = None
    limit: LimitField = 20
    cursor: CursorField = None
    fields: FieldsField = None


class ListWorkflowsParams(Params):
    unlisted = frozenset({"tag"})

    status: StatusFilterName | None = Field(default=None, title="Only with this status.")
    failure_kind: FailureKindName | None = Field(
        default=None,
        validation_alias=AliasChoices("failure_kind", "failureKind"),
        title="Only failures of this kind.",
    )
    retried: bool | None = Field(
        default=None, title="true: only workflows that have been retried; false: only others."
    )
    client: str | None = Field(
        default=None,
        max_length=128,
        title="Only of this client; without the right `admin` always your own.",
    )
    mine: bool = Field(default=False, title="Only those that you submitted.")
    since: SinceField = None
    tag: str | None = Field(
        default=None, max_length=600, title="Only with this tag, as NAME=VALUE.", pattern="^[^=]+="
    )
    limit: LimitField = 50
    cursor: CursorField = None
    fields: FieldsField = None


class OutputParams(Params):
    output_id: str = Field(
        validation_alias=AliasChoices("output_id", "outputId"),
        min_length=1,
        max_length=64,
        description="Id from list_outputs or a finished workflow",
    )


class ViewOutputParams(Params):
    local = frozenset({"save_to"})

    output_id: str = Field(
        validation_alias=AliasChoices("output_id", "outputId", "output_ids", "outputIds"),
        min_length=1,
        max_length=4096,
        description="Id of an output, several ids, or a workflow's",
    )
    max_px: int | None = Field(
        default=None,
        ge=16,
        le=4096,
        validation_alias=AliasChoices("max_px", "maxPx"),
        description="Longest side",
    )
    save_to: str | None = _save_to(title="The folder or file for the full output.")

    _several = field_validator("output_id", mode="before")(joined)
