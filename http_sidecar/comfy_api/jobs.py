"""Jobs of Comfy API v2: create, get, list, cancel, and the workflow behind one."""

import contextlib
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import BridgeError, Conflict, InvalidInput
from comfy_mcp.operations.argument_errors import is_small
from comfy_mcp.operations.shapes import GraphResult, SubmitResult, Tags, WorkflowResult, WorkflowsResult
from http_sidecar.app_state import BRIDGE, CALLER
from http_sidecar.comfy_api.calls import Refused, call, job_answer, state
from http_sidecar.comfy_api.references import resolved
from http_sidecar.comfy_api.shapes import entry
from http_sidecar.door.bodies import read_json_object
from http_sidecar.door.preferences import idempotency_key

TAGS: TypeAdapter[dict[str, str]] = TypeAdapter(Tags)

PAGE = 50
MOST = 100
"""Jobs on a page of the list: without a `limit`, and at most."""


async def create(request: web.Request) -> web.Response:
    """201 with the job. A repeat under the same Idempotency-Key gives the job of the first one.

    Raises InvalidInput, InvalidGraph, LimitExceeded, Refused.
    """
    body = await read_json_object(request)
    if not isinstance(body.get("workflow"), dict):
        raise InvalidInput(
            "The body has no workflow.", next_step='Send {"workflow": {…}}, a graph in API format.'
        )
    arguments: dict[str, Any] = {"workflow": await resolved(request, body["workflow"])}
    if body.get("metadata"):
        arguments["tags"] = _tags_of(body["metadata"])
    if body.get("extra_data"):
        arguments["extra_data"] = body["extra_data"]
    if (key := idempotency_key(request.headers.get("Idempotency-Key"))) is not None:
        arguments["idempotency_key"] = key
    submitted: SubmitResult = await call(request, "submit_workflow", arguments)
    result = _just_submitted(request, submitted, arguments.get("tags", {}))
    if Right.READ in request[CALLER].rights:
        with contextlib.suppress(BridgeError):  # it is submitted all the same
            result = await state(request, submitted.workflow_id)
    return await job_answer(request, result, status=HTTPStatus.CREATED)


async def get(request: web.Request) -> web.Response:
    return await job_answer(request, await state(request, _id_of(request)))


async def cancel(request: web.Request) -> web.Response:
    """The job as it then is: one that has ended stays as it ended."""
    with contextlib.suppress(Conflict):
        await call(request, "cancel_workflow", {"workflow_id": _id_of(request)})
    return await get(request)


async def workflow(request: web.Request) -> web.Response:
    """The graph that ran."""
    found: GraphResult = await call(request, "workflow_graph", {"workflow_id": _id_of(request)})
    return web.json_response({"workflow": found.graph, "format": "api"})


async def listed(request: web.Request) -> web.Response:
    """Newest first. With several labels, the first is looked for and the others are compared: a page may have
    fewer jobs than the next one."""
    labels = _labels_of(request)
    arguments: dict[str, Any] = {"limit": _limit_of(request)}
    if labels:
        name = next(iter(labels))
        arguments["tag"] = f"{name}={labels[name]}"
    if cursor := request.query.get("cursor"):
        arguments["cursor"] = cursor
    found: WorkflowsResult = await call(request, "list_workflows", arguments)
    shown = [each for each in found.workflows if labels.items() <= each.tags.items()]
    page: dict[str, Any] = {"jobs": [entry(each) for each in shown]}
    if found.next_cursor is not None:
        page["next_cursor"] = found.next_cursor
    return web.json_response(page)


def _tags_of(metadata: object) -> dict[str, str]:
    """Raises Refused."""
    try:
        return TAGS.validate_python(metadata if is_small(metadata) else None, strict=True)
    except ValidationError:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "metadata_invalid",
            "metadata is an object of at most 16 texts, each of at most 512 characters.",
            "Use names of 1 to 64 characters without `=`.",
        ) from None


def _labels_of(request: web.Request) -> dict[str, str]:
    """`?metadata[name]=value`, any number of them."""
    return {
        name[len("metadata[") : -1]: value
        for name, value in request.query.items()
        if name.startswith("metadata[") and name.endswith("]")
    }


def _id_of(request: web.Request) -> str:
    return request.match_info["jobId"]


def _limit_of(request: web.Request) -> int:
    """Raises InvalidInput."""
    asked = request.query.get("limit") or str(PAGE)
    if not (asked.isascii() and asked.isdigit() and len(asked) <= 9 and int(asked)):
        raise InvalidInput("limit is no positive number.", next_step=f"Ask for 1 to {MOST}.")
    return min(int(asked), MOST)


def _just_submitted(request: web.Request, submitted: SubmitResult, tags: dict[str, str]) -> WorkflowResult:
    """For a key that may submit and not read, or where nobody can: what the submit itself has said."""
    return WorkflowResult(
        workflow_id=submitted.workflow_id,
        name=submitted.name,
        status=submitted.status,
        queue_position=submitted.queue_position,
        progress=0.0,
        current_node=None,
        start_time=None,
        completion_time=None,
        outputs=[],
        error=None,
        failure=None,
        priority="normal",
        client=request[CALLER].client,
        engine=None,
        attempt=0,
        created_time=request.app[BRIDGE].now_ms(),
        warnings=submitted.warnings,
        tags=tags,
    )
