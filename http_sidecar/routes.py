"""Which operation answers which request: the one table from which routes, OpenAPI and parity tests derive."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from comfy_mcp.operations.operation import Operation
from comfy_mcp.operations.registry import BY_NAME

V1 = "/v1/comfyui"
MCP_PATH = "/mcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation over HTTP. Path and query parameters and the JSON body together are its arguments.

    `media_type`: it answers with bytes of this kind instead of JSON, and has a handler of its own. `defaults`
    are the v1 contract's, where the operation has others. `whole`: the contract knows no pages there, so any
    `limit` is accepted and the operation's pages are joined. `needs` are arguments that have another way in
    on other surfaces. `preview`: instead of the bytes it sends a small picture, if that is asked for. For the
    OpenAPI document: `tag`, `answer`, what a success is in words, and `ongoing`, what the state `running` is,
    answered as 202.
    """

    operation: str
    method: str
    path: str
    success: int = 200
    body: bool = False
    media_type: str | None = None
    whole: bool = False
    defaults: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    needs: frozenset[str] = frozenset()
    preview: bool = False
    tag: str = "Workflows"
    answer: str | None = None
    ongoing: str | None = None

    @property
    def of(self) -> Operation[Any, Any]:
        return BY_NAME[self.operation]

    @property
    def binary(self) -> bool:
        return self.media_type is not None


ROUTES: tuple[Route, ...] = (
    Route(
        operation="submit_workflow",
        method="POST",
        path=f"{V1}/workflow",
        success=202,
        body=True,
        needs=frozenset({"workflow"}),
    ),
    Route(operation="workflow_status", method="GET", path=f"{V1}/workflow/{{workflowId}}"),
    Route(operation="workflow_graph", method="GET", path=f"{V1}/workflow/{{workflowId}}/graph"),
    Route(
        operation="cancel_workflow",
        method="DELETE",
        path=f"{V1}/workflow/{{workflowId}}",
        answer="It is cancelled. Repeating the request is no error.",
        ongoing="The cancel was sent; the engine stops at its next node or step.",
    ),
    Route(operation="retry_workflow", method="POST", path=f"{V1}/workflow/{{workflowId}}/retry", success=202),
    Route(
        operation="prioritize_workflow",
        method="POST",
        path=f"{V1}/workflow/{{workflowId}}/priority",
        body=True,
    ),
    Route(operation="wait_for_workflow", method="GET", path=f"{V1}/workflow/{{workflowId}}/wait"),
    Route(
        operation="workflow_preview",
        method="GET",
        path=f"{V1}/workflow/{{workflowId}}/preview",
        media_type="image/*",
        answer="The picture.",
    ),
    Route(operation="list_workflows", method="GET", path=f"{V1}/workflows"),
    Route(operation="queue", method="GET", path=f"{V1}/queue"),
    Route(operation="find_workflow", method="GET", path=f"{V1}/library"),
    Route(operation="describe_workflow", method="GET", path=f"{V1}/library/inputs"),
    Route(operation="find_nodes", method="GET", path=f"{V1}/nodes"),
    Route(operation="list_models", method="GET", path=f"{V1}/models", whole=True, tag="Models"),
    Route(
        operation="list_outputs",
        method="GET",
        path=f"{V1}/outputs",
        whole=True,
        defaults={"limit": "50"},
        tag="Outputs",
    ),
    Route(
        operation="view_output",
        method="GET",
        path=f"{V1}/output/{{outputId}}/preview",
        media_type="image/*",
        tag="Outputs",
        answer="A small picture of an image.",
    ),
    Route(
        operation="read_output",
        method="GET",
        path=f"{V1}/output/{{outputId}}",
        media_type="*/*",
        preview=True,
        tag="Outputs",
        answer="The whole, streamed.",
    ),
    Route(operation="system_status", method="GET", path="/v1/status", tag="System"),
    Route(operation="gpu_status", method="GET", path="/v1/gpu", tag="System"),
    Route(operation="add_engine", method="POST", path="/v1/engines", success=201, body=True, tag="System"),
    Route(operation="remove_engine", method="DELETE", path="/v1/engines/{engine}", tag="System"),
    Route(operation="drain_engine", method="POST", path="/v1/engines/{engine}/drain", tag="System"),
    Route(operation="resume_engine", method="POST", path="/v1/engines/{engine}/resume", tag="System"),
    Route(operation="list_webhooks", method="GET", path="/v1/webhooks", tag="Webhooks"),
    Route(operation="set_webhook", method="POST", path="/v1/webhooks", body=True, tag="Webhooks"),
    Route(operation="remove_webhook", method="DELETE", path="/v1/webhooks", tag="Webhooks"),
    Route(operation="rotate_webhook_secret", method="POST", path="/v1/webhooks/secret", tag="Webhooks"),
    Route(operation="list_deliveries", method="GET", path="/v1/webhooks/deliveries", tag="Webhooks"),
    Route(
        operation="replay_deliveries", method="POST", path="/v1/webhooks/deliveries/replay", tag="Webhooks"
    ),
)

UPLOAD = Route(
    operation="upload_input",
    method="POST",
    path=f"{V1}/inputs",
    success=201,
    answer="The name of the file in the engine's input folder; it may differ from the one sent.",
)
"""Apart from the others: its body is a form with a file, and MCP has no such operation."""
