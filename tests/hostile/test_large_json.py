"""Whatever surface a large workflow comes by: none of its JSON is parsed or written on the event loop.

C code keeps the interpreter until it has finished. A limit on the time would prove nothing on a busy machine:
here each parser and writer says in which thread it runs. What counts as large is lowered for that.
"""

import json
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic_core
import pytest

from comfy_mcp.checking import checker
from comfy_mcp.domain import large_json
from comfy_mcp.driving import claiming
from tests.support.graphs import picture
from tests.support.mcp_http import legacy_request, modern_request, open_session
from tests.support.sidecar import WORKFLOW, Sidecar, open_sidecar

MARK = "a-word-that-is-longer-than-a-name-may-be-and-so-stands-in-the-workflow-alone"
JSON_TYPE = {"Content-Type": "application/json"}


def graph() -> dict[str, Any]:
    more = {str(at): {"class_type": "PrimitiveString", "inputs": {"value": MARK}} for at in range(9, 30)}
    return picture() | more


def text() -> str:
    return json.dumps(graph())


def wrapped(inner: object, times: int) -> object:
    for _ in range(times):
        inner = {"workflow": inner}
    return inner


def rest(**body: object) -> dict[str, Any]:
    return {"data": json.dumps(body).encode(), "headers": JSON_TYPE}


def mcp(
    arguments: object, make: Callable[..., dict[str, Any]] = modern_request, **how: Any
) -> dict[str, Any]:
    request = make("tools/call", {"name": "submit_workflow", "arguments": arguments}, **how)
    return {"data": json.dumps(request.pop("json")).encode(), "headers": JSON_TYPE | request["headers"]}


CALLS: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "an object": (WORKFLOW, lambda: rest(workflow=graph())),
    "a text": (WORKFLOW, lambda: rest(workflow=text())),
    "a text within a text": (WORKFLOW, lambda: rest(workflow=json.dumps(text()))),
    "a text in a wrapper": (WORKFLOW, lambda: rest(workflow={"workflow": text()})),
    "a text in a wrapper, in a text": (
        WORKFLOW,
        lambda: rest(workflow=json.dumps({"input": {"workflow": text()}})),
    ),
    "a text in six wrappers": (WORKFLOW, lambda: rest(workflow=wrapped(json.dumps(text()), 6))),
    "a text where arguments stand": (WORKFLOW, lambda: rest(prompt={"prompt": text()})),
    "Comfy API v2": ("/api/v2/jobs", lambda: rest(workflow=graph())),
    "Comfy API v2, a text in a wrapper": ("/api/v2/jobs", lambda: rest(workflow={"prompt": text()})),
    "a file": (
        WORKFLOW,
        lambda: {"data": text().encode(), "headers": {"Content-Type": "application/octet-stream"}},
    ),
    "with inputs": (WORKFLOW, lambda: rest(workflow=text(), inputs={"width": 32})),
    "several": (WORKFLOW, lambda: rest(workflow=text(), matrix={"width": [32, 48]})),
    "with an idempotency key": (WORKFLOW, lambda: rest(workflow=text(), idempotencyKey="k")),
    "a dry run": (WORKFLOW, lambda: rest(workflow=text(), dryRun=True)),
    "MCP, an object": ("/mcp", lambda: mcp({"workflow": graph()})),
    "MCP, a text": ("/mcp", lambda: mcp({"workflow": text()})),
    "MCP, a text in a wrapper": ("/mcp", lambda: mcp({"workflow": {"output": text()}})),
    "MCP, all arguments a text": ("/mcp", lambda: mcp(json.dumps({"workflow": graph()}))),
}


@pytest.fixture
def on_the_loop(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What parses or writes the workflow in the thread of the test, which is that of the loop."""
    here, found = threading.get_ident(), list[str]()

    def watched(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def called(*args: Any, **how: Any) -> Any:
            result = original(*args, **how)
            if threading.get_ident() == here and MARK in repr((args, result)):
                stack = [each.filename for each in traceback.extract_stack()]
                if not any("/embedded/" in each or "conftest" in each for each in stack):
                    found.append(f"{name} by {stack[-4:-1]}")
            return result

        monkeypatch.setattr(owner, name, called)

    monkeypatch.setattr(large_json, "LARGE_BYTES", 100)
    monkeypatch.setattr(large_json, "LARGE_VALUES", 30)
    monkeypatch.setattr(claiming, "THREAD_BYTES", 100)
    monkeypatch.setattr(checker, "INLINE_BYTES", 100)
    watched(json.JSONDecoder, "decode")
    watched(json.JSONEncoder, "encode")
    watched(json.JSONEncoder, "iterencode")
    watched(pydantic_core, "from_json")
    return found


@pytest.mark.parametrize(("path", "call"), CALLS.values(), ids=CALLS)
async def test_no_large_json_on_the_loop(
    tmp_path: Path, path: str, call: Callable[[], dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    asked = call()
    async with open_sidecar(tmp_path) as sidecar:
        on_the_loop: list[str] = request.getfixturevalue("on_the_loop")
        answer = await sidecar("POST", path, **asked)
        assert answer.status in {200, 201, 202}, answer.data
        assert b'isError":true' not in answer.data, answer.data
        await all_end(sidecar)
    assert on_the_loop == []


async def test_nor_in_a_session_of_mcp(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    async with open_sidecar(tmp_path) as sidecar:
        session = await open_session(sidecar.session, f"{sidecar.url}/mcp")
        asked = mcp({"workflow": graph()}, legacy_request, session=session)
        on_the_loop: list[str] = request.getfixturevalue("on_the_loop")
        answer = await sidecar("POST", "/mcp", **asked)
        assert b"Queued as" in answer.data
        await all_end(sidecar)
    assert on_the_loop == []


async def all_end(sidecar: Sidecar) -> None:
    for job in (await sidecar("GET", "/v1/comfyui/workflows")).body["workflows"]:
        await sidecar.ended(job["workflowId"])
