"""What the product can do: one Operation per capability. Every surface is generated from this list."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar, cast

from pydantic import ValidationError

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.operations import (
    catalog,
    checking,
    engines,
    examples,
    finding,
    inputs,
    keys,
    nodes,
    shapes,
    submitting,
    system,
    viewing,
    workflows,
)
from comfy_mcp.operations.argument_errors import explained
from comfy_mcp.operations.context import OperationContext, require_right
from comfy_mcp.operations.ids import whole_ids
from comfy_mcp.operations.repairs import repaired
from comfy_mcp.operations.shapes import Params, Result

P = TypeVar("P", bound=Params)
R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[P, R]):
    """One capability.

    The hints are MCP's tool annotations and decide the HTTP method too: a read-only operation is a GET.
    `tool` is False where MCP offers the operation as a resource only (`resource` is its URI or template), or
    not at all. `only` names the surfaces that have it: over HTTP what sends bytes, which a model can't; on
    the command line what a person at the machine decides; both for what people and their programs decide,
    and no model. `raises` are the codes that a caller can meet
    beside those of any call (a wrong argument, a missing right, a store that does not answer).
    """

    name: str
    title: str
    description: str
    params: type[P]
    result: type[R]
    handler: Callable[[OperationContext, P], Awaitable[R]]
    right: Right
    raises: tuple[ErrorCode, ...]
    read_only: bool
    destructive: bool = False
    idempotent: bool = False
    open_world: bool = False
    tool: bool = True
    resource: str | None = None
    only: Literal["http", "cli", "http and cli"] | None = None
    example_call: Mapping[str, Any] | None = None

    @property
    def example(self) -> Mapping[str, Any] | None:
        """An answer; None where it is bytes."""
        return examples.ANSWERS.get(self.name)

    async def call(self, context: OperationContext, arguments: Mapping[str, Any]) -> R:
        """Validate `arguments` and run. The result has a warning for each argument that was changed.

        Raises Denied without the right, InvalidInput naming each field, or what the handler raises.
        """
        require_right(context.caller, self.right, self.name)
        known, repairs = self._understood(arguments)
        params, more = await whole_ids(context, known)
        repairs += more
        if repairs:
            context = replace(context, repairs=repairs)
        result = await self.handler(context, params)
        fields = getattr(params, "fields", None) if "fields" in self.params.model_fields else None
        if fields is not None:
            result = result.with_fields(fields)
        return result.with_repairs(repairs) if repairs else result

    def _understood(self, arguments: Mapping[str, Any]) -> tuple[P, tuple[str, ...]]:
        """The arguments as they are meant, and a warning for each one that was changed.

        A client that polls sends the same id again and again: a single short text is kept as it was
        understood.
        """
        if len(arguments) == 1:
            ((name, value),) = arguments.items()
            if type(value) is str and len(value) <= _ID_CHARS:
                return cast("tuple[P, tuple[str, ...]]", _understood_before(self.name, name, value))
        taken, repairs = repaired(self.name, self.params, arguments)
        return self.parse(taken), repairs

    def parse(self, arguments: Mapping[str, Any]) -> P:
        """Raises InvalidInput naming each field."""
        try:
            return self.params.model_validate(arguments)
        except ValidationError as error:
            message, step = explained(self.name, self.params, error)
            raise InvalidInput(message, next_step=step) from None


_ID_CHARS = 64
"""Of an argument that is kept as it was understood."""


@lru_cache(maxsize=256)
def _understood_before(operation: str, name: str, value: str) -> tuple[Params, tuple[str, ...]]:
    found = BY_NAME[operation]
    taken, repairs = repaired(operation, found.params, {name: value})
    return found.parse(taken), repairs


_RAISED_BY_A_FILE = (ErrorCode.GRAPH_UI_FORMAT, ErrorCode.GRAPH_INVALID, ErrorCode.TOO_LARGE)
_RAISED_BY_A_SUBMIT = (
    *_RAISED_BY_A_FILE,
    ErrorCode.NOT_FOUND,
    ErrorCode.WORKFLOW_NOT_FOUND,
    ErrorCode.PATH_NOT_ALLOWED,
    ErrorCode.LANE_UNAVAILABLE,
    ErrorCode.QUEUE_FULL,
    ErrorCode.IDEMPOTENCY_MISMATCH,
)
_RAISED_BY_AN_ENGINE = (ErrorCode.ENGINE_UNREACHABLE, ErrorCode.ENGINE_BAD_ANSWER)
_RAISED_BY_A_NAME = (
    ErrorCode.NOT_FOUND,
    ErrorCode.WORKFLOW_NOT_FOUND,
    *_RAISED_BY_A_FILE,
    *_RAISED_BY_AN_ENGINE,
)
_RAISED_BY_AN_OUTPUT = (
    ErrorCode.NOT_FOUND,
    ErrorCode.OUTPUT_GONE,
    ErrorCode.TOO_LARGE,
    ErrorCode.OUTPUT_UNREADABLE,
    *_RAISED_BY_AN_ENGINE,
)

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    Operation(
        name="find_workflow",
        title="Find workflow",
        description="Workflows that do what you need, those that run here first: the user's own, starters, "
        "ComfyUI's templates, recent jobs.",
        params=shapes.FindWorkflowParams,
        result=shapes.FoundWorkflowsResult,
        handler=finding.find_workflow,
        right=Right.READ,
        raises=(),
        read_only=True,
        idempotent=True,
    ),
    Operation(
        name="describe_workflow",
        title="Describe workflow",
        description="The inputs of a workflow: names, types, ranges, choices, values.",
        params=shapes.DescribeWorkflowParams,
        result=shapes.DescribedWorkflowResult,
        handler=finding.describe_workflow,
        right=Right.READ,
        raises=_RAISED_BY_A_NAME,
        read_only=True,
        idempotent=True,
    ),
    Operation(
        name="find_nodes",
        title="Find nodes",
        description="Node classes by what they do or by type; with name, one class in full.",
        params=shapes.FindNodesParams,
        result=shapes.FoundNodesResult,
        handler=nodes.find_nodes,
        right=Right.READ,
        raises=(ErrorCode.NOT_FOUND, *_RAISED_BY_AN_ENGINE),
        read_only=True,
        idempotent=True,
    ),
    Operation(
        name="submit_workflow",
        title="Submit workflow",
        description="Queue a workflow; returns its workflowId at once. Then call wait_for_workflow.",
        params=shapes.SubmitParams,
        result=shapes.SubmitResult,
        handler=submitting.submit_workflow,
        right=Right.SUBMIT,
        raises=_RAISED_BY_A_SUBMIT,
        read_only=False,
        open_world=True,
        example_call=examples.SUBMIT_CALL,
    ),
    Operation(
        name="workflow_status",
        title="Workflow status",
        description="State, progress, current node, outputs or error of one workflow.",
        params=shapes.StatusParams,
        result=shapes.WorkflowResult,
        handler=workflows.workflow_status,
        right=Right.READ,
        raises=(ErrorCode.WORKFLOW_NOT_FOUND,),
        read_only=True,
        idempotent=True,
        resource="comfy://workflows/{workflowId}",
    ),
    Operation(
        name="workflow_graph",
        title="Workflow graph",
        description="The file that was submitted, and the graph in API format that the engine gets.",
        params=shapes.WorkflowParams,
        result=shapes.GraphResult,
        handler=workflows.workflow_graph,
        right=Right.READ,
        raises=(ErrorCode.WORKFLOW_NOT_FOUND,),
        read_only=True,
        idempotent=True,
        tool=False,
        resource="comfy://workflows/{workflowId}/graph",
    ),
    Operation(
        name="wait_for_workflow",
        title="Wait for workflow",
        description="Wait until a workflow ends or timeout_s passes; returns its state. "
        "The job continues: call again.",
        params=shapes.WaitParams,
        result=shapes.WorkflowResult,
        handler=workflows.wait_for_workflow,
        right=Right.READ,
        raises=(ErrorCode.WORKFLOW_NOT_FOUND,),
        read_only=False,
        idempotent=True,
    ),
    Operation(
        name="cancel_workflow",
        title="Cancel workflow",
        description="Cancel a queued or running workflow; returns its state.",
        params=shapes.CancelParams,
        result=shapes.CancelResult,
        handler=workflows.cancel_workflow,
        right=Right.CANCEL,
        raises=(ErrorCode.WORKFLOW_NOT_FOUND, ErrorCode.NOT_CANCELLABLE),
        read_only=False,
        destructive=True,
        idempotent=True,
    ),
    Operation(
        name="retry_workflow",
        title="Retry workflow",
        description="Submit a failed or cancelled workflow again, as a new one.",
        params=shapes.RetryParams,
        result=shapes.RetryResult,
        handler=submitting.retry_workflow,
        right=Right.SUBMIT,
        raises=(ErrorCode.WORKFLOW_NOT_FOUND, ErrorCode.NOT_RETRYABLE, *_RAISED_BY_A_SUBMIT),
        read_only=False,
        open_world=True,
    ),
    Operation(
        name="abandon_workflow",
        title="Abandon workflow",
        description="End a workflow at once, without asking the engine, which may still run it. "
        "For workflows that a cancel does not end.",
        params=shapes.WorkflowParams,
        result=shapes.WorkflowResult,
        handler=workflows.abandon_workflow,
        right=Right.ADMIN,
        raises=(ErrorCode.WORKFLOW_NOT_FOUND, ErrorCode.NOT_CANCELLABLE),
        read_only=False,
        destructive=True,
        tool=False,
        only="cli",
    ),
    Operation(
        name="list_workflows",
        title="List workflows",
        description="Submitted workflows, newest first; failures with their cause.",
        params=shapes.ListWorkflowsParams,
        result=shapes.WorkflowsResult,
        handler=workflows.list_workflows,
        right=Right.READ,
        raises=(),
        read_only=True,
        idempotent=True,
        resource="comfy://workflows",
    ),
    Operation(
        name="list_models",
        title="List models",
        description="Model files by type, with sizes and hashes.",
        params=shapes.ListModelsParams,
        result=shapes.ModelsResult,
        handler=catalog.list_models,
        right=Right.READ,
        raises=_RAISED_BY_AN_ENGINE,
        read_only=True,
        idempotent=True,
    ),
    Operation(
        name="list_outputs",
        title="List outputs",
        description="Outputs of workflows, newest first.",
        params=shapes.ListOutputsParams,
        result=shapes.OutputsResult,
        handler=catalog.list_outputs,
        right=Right.READ,
        raises=(),
        read_only=True,
        idempotent=True,
    ),
    Operation(
        name="view_output",
        title="View output",
        description="Show outputs: picture, frames, waveform, text; several on a sheet.",
        params=shapes.ViewOutputParams,
        result=shapes.ViewResult,
        handler=viewing.view_output,
        right=Right.READ,
        raises=_RAISED_BY_AN_OUTPUT,
        read_only=True,
        idempotent=True,
    ),
    Operation(
        name="system_status",
        title="System status",
        description="Engines, queue, GPU, store, and what to fix.",
        params=shapes.NoParams,
        result=shapes.SystemResult,
        handler=system.system_status,
        right=Right.READ,
        raises=(),
        read_only=True,
        idempotent=True,
    ),
    Operation(
        name="queue",
        title="Queue",
        description="Running and queued workflows, in run order.",
        params=shapes.NoParams,
        result=shapes.QueueResult,
        handler=workflows.queue,
        right=Right.READ,
        raises=(),
        read_only=True,
        idempotent=True,
        tool=False,
        resource="comfy://queue",
    ),
    Operation(
        name="gpu_status",
        title="GPU",
        description="GPUs of this machine and of the engines.",
        params=shapes.NoParams,
        result=shapes.GpuResult,
        handler=system.gpu_status,
        right=Right.READ,
        raises=(),
        read_only=True,
        idempotent=True,
        tool=False,
        resource="comfy://gpu",
    ),
    Operation(
        name="read_output",
        title="Read output",
        description="The bytes of one output.",
        params=shapes.OutputParams,
        result=shapes.OutputContentResult,
        handler=catalog.read_output,
        right=Right.READ,
        raises=_RAISED_BY_AN_OUTPUT,
        read_only=True,
        idempotent=True,
        tool=False,
        resource="comfy://outputs/{outputId}",
    ),
    Operation(
        name="workflow_preview",
        title="Workflow preview",
        description="The last picture that the engine sent of a running workflow.",
        params=shapes.WorkflowParams,
        result=shapes.PreviewResult,
        handler=viewing.workflow_preview,
        right=Right.READ,
        raises=(ErrorCode.WORKFLOW_NOT_FOUND, ErrorCode.NOT_FOUND),
        read_only=True,
        idempotent=True,
        tool=False,
        only="http",  # over MCP a wait shows it
    ),
    Operation(
        name="upload_input",
        title="Upload input",
        description="Put a file into the engine's input folder, for nodes like LoadImage.",
        params=shapes.UploadParams,
        result=shapes.UploadResult,
        handler=inputs.upload_input,
        right=Right.SUBMIT,
        raises=(ErrorCode.TOO_LARGE, ErrorCode.PATH_NOT_ALLOWED, *_RAISED_BY_AN_ENGINE),
        read_only=False,
        open_world=True,
        tool=False,
        only="http",
    ),
    Operation(
        name="convert_workflow",
        title="Convert workflow",
        description="A workflow's file in API format, as ComfyUI's editor would send it.",
        params=shapes.NoParams,
        result=shapes.ConvertResult,
        handler=checking.convert_workflow,
        right=Right.SUBMIT,
        raises=(
            ErrorCode.GRAPH_UI_FORMAT,
            ErrorCode.GRAPH_INVALID,
            ErrorCode.TOO_LARGE,
            *_RAISED_BY_AN_ENGINE,
        ),
        read_only=True,
        idempotent=True,
        tool=False,
        only="cli",
    ),
    Operation(
        name="drain_engine",
        title="Drain engine",
        description="Give an engine no new workflows; it ends those that it has.",
        params=shapes.EngineParams,
        result=shapes.DrainResult,
        handler=engines.drain_engine,
        right=Right.ADMIN,
        raises=(ErrorCode.NOT_FOUND,),
        read_only=False,
        idempotent=True,
        tool=False,
        only="http and cli",
    ),
    Operation(
        name="resume_engine",
        title="Resume engine",
        description="Give a drained engine workflows again.",
        params=shapes.EngineParams,
        result=shapes.DrainResult,
        handler=engines.resume_engine,
        right=Right.ADMIN,
        raises=(ErrorCode.NOT_FOUND,),
        read_only=False,
        idempotent=True,
        tool=False,
        only="http and cli",
    ),
    Operation(
        name="add_engine",
        title="Add engine",
        description="Add an engine to the file of engines. It gets workflows within seconds.",
        params=shapes.AddEngineParams,
        result=shapes.EngineChangeResult,
        handler=engines.add_engine,
        right=Right.ADMIN,
        raises=(),
        read_only=False,
        tool=False,
        only="http and cli",
        example_call={"engine": "gpu-1", "url": "http://gpu-1:8188", "labels": ["h100"]},
    ),
    Operation(
        name="remove_engine",
        title="Remove engine",
        description="Take an engine out of the file of engines. It ends the workflows that it has.",
        params=shapes.EngineParams,
        result=shapes.EngineChangeResult,
        handler=engines.remove_engine,
        right=Right.ADMIN,
        raises=(ErrorCode.NOT_FOUND,),
        read_only=False,
        destructive=True,
        tool=False,
        only="http and cli",
    ),
    Operation(
        name="add_key",
        title="Add key",
        description="Make an API key and return it, this one time.",
        params=shapes.AddKeyParams,
        result=shapes.NewKeyResult,
        handler=keys.add_key,
        right=Right.ADMIN,
        raises=(ErrorCode.INVALID_ARGUMENT,),
        read_only=False,
        tool=False,
        only="cli",
    ),
    Operation(
        name="list_keys",
        title="List keys",
        description="API keys with their rights, revoked ones too.",
        params=shapes.NoParams,
        result=shapes.KeysResult,
        handler=keys.list_keys,
        right=Right.ADMIN,
        raises=(),
        read_only=True,
        idempotent=True,
        tool=False,
        only="cli",
    ),
    Operation(
        name="revoke_key",
        title="Revoke key",
        description="Make an API key invalid, for good.",
        params=shapes.RevokeKeyParams,
        result=shapes.RevokedKeyResult,
        handler=keys.revoke_key,
        right=Right.ADMIN,
        raises=(ErrorCode.NOT_FOUND,),
        read_only=False,
        destructive=True,
        idempotent=True,
        tool=False,
        only="cli",
    ),
)

BY_NAME: Mapping[str, Operation[Any, Any]] = MappingProxyType({item.name: item for item in OPERATIONS})
