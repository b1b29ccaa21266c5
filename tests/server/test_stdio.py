"""The server as a process: handshakes, a pure stdout, clean ends, and engines and stores that come later."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.operations.registry import OPERATIONS
from comfy_mcp.store import Store
from tests.support.held import held
from tests.support.mcp_process import HANDSHAKES, ServerProcess, parameters, server_process
from tests.support.mcp_surface import bridge_settings, slow_graph, submit
from tests.support.ports import free_port

TOOLS = {operation.name for operation in OPERATIONS if operation.tool}
NOBODY = "http://127.0.0.1:9"


def engine(folder: Path, port: int = 0) -> EmbeddedEngine:
    return EmbeddedEngine(EngineConfig(base_directory=folder / "engine", port=port))


async def job_in_store(folder: Path, workflow_id: str) -> Job:
    store = await Store.open(bridge_settings(folder, NOBODY))
    try:
        job = await store.get_job(JobId(workflow_id))
    finally:
        await store.close()
    assert job is not None
    return job


async def lease_is_free(folder: Path, url: str) -> bool:
    store = await Store.open(bridge_settings(folder, url))
    try:
        lease = await store.lease_of(EngineId(url.removeprefix("http://")))
    finally:
        await store.close()
    return lease is None or not lease.live or not lease.holder


async def until_driven(server: ServerProcess) -> None:
    while True:
        status = await server.tool("system_status")
        if status["structuredContent"]["engines"][0]["drivenBy"] == "this process":
            return


@pytest.mark.parametrize("version", HANDSHAKES)
async def test_every_handshake_version_is_served(tmp_path: Path, version: str) -> None:
    async with server_process(tmp_path, NOBODY) as server:
        result = await server.initialize(version)
        assert result["protocolVersion"] == version
        assert result["capabilities"]["resources"] == {"subscribe": True, "listChanged": True}
        assert result["instructions"]
        tools = (await server.request("tools/list"))["result"]["tools"]
        assert {tool["name"] for tool in tools} == TOOLS
        code, _ = await server.end()
    assert code == 0


async def test_what_other_programs_write_is_answered_with_the_request_s_id(tmp_path: Path) -> None:
    """A byte order mark before the first line, and half a character in an argument."""
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    first = {"jsonrpc": "2.0", "id": "first", "method": "initialize", "params": params}
    half = {"name": "workflow_status", "arguments": {"workflow_id": "half \ud83d"}}
    async with server_process(tmp_path, NOBODY) as server:
        assert server.process.stdin is not None
        server.process.stdin.write(b"\xef\xbb\xbf" + json.dumps(first).encode() + b"\n")
        answer = await server.line()
        assert (answer["id"], answer["result"]["serverInfo"]["name"]) == ("first", "comfy-mcp-bridge")
        await server.send("notifications/initialized")
        await server.send("tools/call", half, id=77)
        answer = await server.line()
        assert (answer["id"], answer["result"]["isError"]) == (77, True)
        code, _ = await server.end()
    assert code == 0


@pytest.mark.parametrize(
    ("modes", "mode", "version"),
    [((), "auto", "2026-07-28"), ((), "legacy", "2025-11-25"), (("legacy",), "auto", "2025-11-25")],
)
async def test_the_sdk_s_client_gets_its_picture(
    tmp_path: Path, modes: tuple[str, ...], mode: str, version: str
) -> None:
    values: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        values.append(progress)

    async with (
        engine(tmp_path) as running,
        Client(parameters(tmp_path, running.url, *modes), mode=mode) as client,
    ):
        assert client.protocol_version == version
        workflow_id = await submit(client, slow_graph())
        done = await client.call_tool(
            "wait_for_workflow", {"workflow_id": workflow_id}, progress_callback=on_progress
        )
        assert done.structured_content["status"] == "completed"
        assert values[-1] == 100
        view = await client.call_tool(
            "view_output", {"output_id": done.structured_content["outputs"][0]["outputId"]}
        )
        assert [block.type for block in view.content] == ["text", "image", "resource_link"]


async def test_a_client_that_asks_to_discover_and_then_initializes_is_served_in_legacy_mode(
    tmp_path: Path,
) -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    async with server_process(tmp_path, NOBODY, "legacy") as server:
        refused = await server.request("server/discover", {"_meta": meta})
        assert refused["error"]["code"] == -32601
        assert (await server.initialize())["protocolVersion"] == "2025-11-25"
        assert {tool["name"] for tool in (await server.request("tools/list"))["result"]["tools"]} == TOOLS


async def test_nothing_but_messages_is_ever_on_stdout(tmp_path: Path) -> None:
    async with (
        engine(tmp_path) as running,
        server_process(tmp_path, running.url, "noisy", LOG_LEVEL="debug") as server,
    ):
        await server.initialize()
        submitted = await server.tool("submit_workflow", workflow=slow_graph(steps=1))
        workflow_id = submitted["structuredContent"]["workflowId"]
        await server.tool("wait_for_workflow", workflow_id=workflow_id)
        await server.tool("workflow_status", workflow_id="nope")
        code, errors = await server.end()
    assert code == 0
    assert all(line["jsonrpc"] == "2.0" for line in server.lines)
    for noise in ("a library prints", "C code writes", "a child prints", "lease_acquired"):
        assert noise in errors


async def test_a_line_that_is_no_message_does_not_end_the_session(tmp_path: Path) -> None:
    async with server_process(tmp_path, NOBODY) as server:
        assert server.process.stdin is not None
        server.process.stdin.write(b"hello?\n")
        answer = await server.line()
        assert answer["error"]["code"] == -32700
        assert (await server.initialize())["protocolVersion"] == "2025-11-25"


async def test_the_arguments_of_a_tool_may_be_json_text(tmp_path: Path) -> None:
    async with server_process(tmp_path, NOBODY) as server:
        await server.initialize()
        for text, told in {
            "": "engine",
            '{"verbose": 1}': "no argument 'verbose'",
            json.dumps('{"verbose": 1}'): "no argument 'verbose'",
            '```json\n{"verbose": 1}\n```': "no argument 'verbose'",
        }.items():
            answer = await server.request("tools/call", {"name": "system_status", "arguments": text})
            assert told in answer["result"]["content"][0]["text"]
        answer = await server.request("tools/call", {"name": "system_status", "arguments": "{bad"})
        assert answer["error"]["code"] == -32602


@pytest.mark.parametrize("end", ["stdin", signal.SIGTERM, signal.SIGINT])
async def test_the_end_gives_the_lease_back(tmp_path: Path, end: str | signal.Signals) -> None:
    async with engine(tmp_path) as running, server_process(tmp_path, running.url) as server:
        await server.initialize()
        await until_driven(server)
        if isinstance(end, signal.Signals):
            server.process.send_signal(end)
            code, errors = await server.ended()
        else:
            code, errors = await server.end()
        assert code == 0, errors
        assert "Traceback" not in errors
        assert await lease_is_free(tmp_path, running.url)


async def test_a_signal_ends_open_waits_and_leaves_their_jobs(tmp_path: Path) -> None:
    async with engine(tmp_path) as running, server_process(tmp_path, running.url) as server:
        await server.initialize()
        workflow_id = await submitted_id(server, slow_graph(steps=100, step_ms=100))
        await begin_wait(server, workflow_id, cancel_on_disconnect=False)
        server.process.send_signal(signal.SIGTERM)
        code, errors = await server.ended()
        assert code == 0, errors
        job = await job_in_store(tmp_path, workflow_id)
    assert job.status in {JobStatus.QUEUED, JobStatus.RUNNING}
    assert not job.cancel_requested


@pytest.mark.parametrize("cancels", [False, True])
async def test_a_client_that_goes_away_ends_its_job_only_when_it_said_so(
    tmp_path: Path, cancels: bool
) -> None:
    async with engine(tmp_path) as running, server_process(tmp_path, running.url) as server:
        await server.initialize()
        workflow_id = await submitted_id(server, slow_graph(steps=100, step_ms=100))
        await begin_wait(server, workflow_id, cancel_on_disconnect=cancels)
        code, errors = await server.end()
        assert code == 0, errors
        job = await job_in_store(tmp_path, workflow_id)
    assert (job.cancel_requested or job.status is JobStatus.CANCELLED) is cancels


@pytest.mark.parametrize("cancels", [False, True])
async def test_notifications_cancelled_ends_the_wait_and_the_job_only_when_told_so(
    tmp_path: Path, cancels: bool
) -> None:
    async with engine(tmp_path) as running, server_process(tmp_path, running.url) as server:
        await server.initialize()
        with held() as go_on:
            workflow_id = await submitted_id(server, slow_graph(steps=20))
            request_id = await begin_wait(server, workflow_id, cancel_on_disconnect=cancels)
            await server.send("notifications/cancelled", {"requestId": request_id})
            if not cancels:
                go_on()
            done = await server.tool("wait_for_workflow", workflow_id=workflow_id)
        assert done["structuredContent"]["status"] == ("cancelled" if cancels else "completed")
        assert request_id not in [line.get("id") for line in server.lines]


async def test_the_server_starts_before_its_engine_and_works_when_it_comes(tmp_path: Path) -> None:
    port = free_port()
    async with server_process(tmp_path, f"http://127.0.0.1:{port}") as server:
        await server.initialize()
        submitted = await server.tool("submit_workflow", workflow=slow_graph(steps=1))
        workflow_id = submitted["structuredContent"]["workflowId"]
        assert str(port) in submitted["structuredContent"]["warnings"][0]
        async with engine(tmp_path, port):
            done = await server.tool("wait_for_workflow", workflow_id=workflow_id)
            assert done["structuredContent"]["status"] == "completed"
            await server.end()


async def test_a_store_that_cant_be_opened_is_said_on_each_call_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    async with server_process(tmp_path, NOBODY) as server:
        await server.initialize()
        for _ in range(2):
            failed = await server.tool("system_status")
            assert failed["isError"]
            assert json.dumps(failed).count("store_unavailable")
        (tmp_path / "state").unlink()
        while (await server.tool("list_outputs")).get("isError"):
            pass
        code, errors = await server.end()
    assert code == 0
    assert "runtime_failed" in errors


async def submitted_id(server: ServerProcess, graph: dict[str, Any]) -> str:
    submitted = await server.tool("submit_workflow", workflow=graph)
    return str(submitted["structuredContent"]["workflowId"])


async def begin_wait(server: ServerProcess, workflow_id: str, *, cancel_on_disconnect: bool) -> str:
    """Start a wait and return its request id once the job runs and the wait has said so."""
    arguments = {"workflow_id": workflow_id, "cancel_on_disconnect": cancel_on_disconnect}
    params = {"name": "wait_for_workflow", "arguments": arguments, "_meta": {"progressToken": "p"}}
    await server.send("tools/call", params, id="the wait")
    while True:
        message = await server.line()
        if message.get("method") == "notifications/progress" and "Slow" in message["params"]["message"]:
            return "the wait"
