"""Resources: every operation of the registry that has a URI, plus recent jobs and outputs by name.

Clients list resources but not templates (Claude Code, measured), so what is recent is listed concretely.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import structlog
from mcp_types import (
    BlobResourceContents,
    ListResourcesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from comfy_mcp.domain.cursors import cursor_of, invalid_cursor, position_in
from comfy_mcp.domain.errors import BridgeError, Denied, ErrorCode, InvalidInput, NotFound
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.brief import brief
from comfy_mcp.operations.context import Caller, require_right
from comfy_mcp.operations.registry import BY_NAME, OPERATIONS
from comfy_mcp.operations.shapes import (
    OutputContentResult,
    OutputItem,
    OutputsResult,
    Result,
    WorkflowResult,
    WorkflowsResult,
)
from comfy_mcp.operations.views import WORKFLOW_URI
from comfy_mcp.server.bus import require_room
from comfy_mcp.server.runtime_provider import BridgeProvider

log = structlog.get_logger(__name__)

JSON_TYPE = "application/json"
WORKFLOW = "workflow_status"
"""The operation behind comfy://workflows/{workflowId}."""

RECENT = 20
"""Jobs, and outputs, on one page of the list."""

PAGES = 10
"""Pages of the list: some clients fetch all of them, and it is for what is recent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a URI means: an operation and its arguments."""

    operation: str
    arguments: Mapping[str, str]


def resolve(uri: str) -> Target:
    """Raises NotFound (`not_found`)."""
    for operation in OPERATIONS:
        template = operation.resource
        if template is None:
            continue
        prefix, brace, rest = template.partition("{")
        parameter, _, suffix = rest.partition("}")
        if not brace and uri == template:
            return Target(operation=operation.name, arguments={})
        value = uri.removeprefix(prefix).removesuffix(suffix)
        if brace and uri == f"{prefix}{value}{suffix}" and value and "/" not in value:
            return Target(operation=operation.name, arguments={parameter: value})
    raise NotFound(
        f"No resource {uri[:200]}.",
        next_step="Call resources/list or resources/templates/list.",
        code=ErrorCode.NOT_FOUND,
    )


@cache
def templates() -> tuple[ResourceTemplate, ...]:
    return tuple(
        ResourceTemplate(
            uri_template=operation.resource,
            name=operation.name,
            title=operation.title,
            description=operation.description,
            mime_type=None if operation.result is OutputContentResult else JSON_TYPE,
        )
        for operation in OPERATIONS
        if operation.resource is not None and "{" in operation.resource
    )


async def read_resource(provider: BridgeProvider, caller: Caller, uri: str) -> ReadResourceResult:
    """The operation's JSON, or an output's bytes. Raises BridgeError."""
    target = resolve(uri)
    bridge = await provider.get()
    result: Result = await bridge.call(target.operation, target.arguments, caller=caller)
    if isinstance(result, OutputContentResult):
        return ReadResourceResult(contents=[_contents(uri, result)])
    text = json.dumps(brief(result), ensure_ascii=False, separators=(",", ":"))
    return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type=JSON_TYPE, text=text)])


async def require_followable(provider: BridgeProvider, caller: Caller, uri: str) -> None:
    """Check that the caller may subscribe: only who may read something gets news of it.

    Of a workflow that depends on whose it is; an output never changes. Raises Denied and NotFound as reading
    does, StoreFault.
    """
    target = resolve(uri)
    require_right(caller, BY_NAME[target.operation].right, target.operation)
    if target.operation == WORKFLOW:
        bridge = await provider.get()
        await bridge.call(WORKFLOW, target.arguments, caller=caller)


async def followable(provider: BridgeProvider, caller: Caller, uris: Sequence[str]) -> list[str]:
    """Those that the caller may follow. Raises LimitExceeded beyond MAX_URIS, StoreFault."""
    require_room(len(uris))
    found: list[str] = []
    for uri in uris:
        try:
            await require_followable(provider, caller, uri)
        except (Denied, InvalidInput, NotFound):
            continue
        found.append(uri)
    return found


async def list_resources(provider: BridgeProvider, caller: Caller, cursor: str | None) -> ListResourcesResult:
    """What is always there, then jobs and outputs, newest first. Raises InvalidInput (`invalid_argument`).

    While the store can't be read the list is what is always there: reading one of them says what is wrong.
    """
    start = _page_start(cursor)
    fixed = list(_fixed()) if cursor is None else []
    try:
        bridge = await provider.get()
        jobs, next_job = await _jobs(bridge, caller, start)
        outputs, next_output = await _outputs(bridge, caller, start)
    except InvalidInput:
        raise
    except BridgeError as error:
        log.warning("resource_list_is_partial", code=error.code.value)
        return ListResourcesResult(resources=fixed)
    after = _PageStart(page=start.page + 1, job=next_job, output=next_output)
    return ListResourcesResult(resources=[*fixed, *jobs, *outputs], next_cursor=after.cursor())


@dataclass(frozen=True, slots=True, kw_only=True)
class _PageStart:
    """Where the next page begins. A list without a cursor has been read to its end."""

    page: int = 0
    job: str | None = None
    output: str | None = None

    def cursor(self) -> str | None:
        if self.page >= PAGES or (self.job is None and self.output is None):
            return None
        return cursor_of([self.page, self.job, self.output])


def _page_start(cursor: str | None) -> _PageStart:
    if cursor is None:
        return _PageStart()
    match position_in(cursor):
        case [int() as page, (str() | None) as job, (str() | None) as output] if page > 0:
            return _PageStart(page=page, job=job, output=output)
        case _:
            raise invalid_cursor()


@cache
def _fixed() -> tuple[Resource, ...]:
    return tuple(
        Resource(
            uri=operation.resource,
            name=operation.name,
            title=operation.title,
            description=operation.description,
            mime_type=JSON_TYPE,
        )
        for operation in OPERATIONS
        if operation.resource is not None and "{" not in operation.resource
    )


async def _jobs(bridge: Bridge, caller: Caller, start: _PageStart) -> tuple[list[Resource], str | None]:
    if start.page and start.job is None:
        return [], None
    result: WorkflowsResult = await bridge.call(
        "list_workflows", {"limit": RECENT, "cursor": start.job}, caller=caller
    )
    return [_job_resource(item) for item in result.workflows], result.next_cursor


async def _outputs(bridge: Bridge, caller: Caller, start: _PageStart) -> tuple[list[Resource], str | None]:
    if start.page and start.output is None:
        return [], None
    result: OutputsResult = await bridge.call(
        "list_outputs", {"limit": RECENT, "cursor": start.output}, caller=caller
    )
    return [_output_resource(item) for item in result.outputs], result.next_cursor


def _job_resource(item: WorkflowResult) -> Resource:
    return Resource(
        uri=f"{WORKFLOW_URI}{item.workflow_id}",
        name=item.workflow_id,
        title=f"Workflow {item.workflow_id[:8]}: {item.status}",
        description=f"Submitted by {item.client}, {item.progress:.0f} %",
        mime_type=JSON_TYPE,
    )


def _output_resource(item: OutputItem) -> Resource:
    return Resource(
        uri=item.uri,
        name=item.filename or item.output_id,
        title=item.filename or f"{item.type} {item.output_id[:8]}",
        description=f"{item.type} of workflow {item.workflow_id}",
        mime_type=item.media_type,
        size=item.size,
    )


def _contents(uri: str, result: OutputContentResult) -> TextResourceContents | BlobResourceContents:
    if result.media_type.startswith("text/") or result.media_type == JSON_TYPE:
        try:
            text = result.data.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            return TextResourceContents(uri=uri, mime_type=result.media_type, text=text)
    blob = base64.b64encode(result.data).decode("ascii")
    return BlobResourceContents(uri=uri, mime_type=result.media_type, blob=blob)
