"""MCP over Streamable HTTP with the SDK's own client, in both protocol eras."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from mcp.client import Client
from mcp.client.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp_types import TextResourceContents

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.operations.registry import OPERATIONS
from comfy_mcp.operations.services import Services
from comfy_mcp.settings import Settings
from tests.support.held import held
from tests.support.mcp_http import (
    Sidecar,
    client_with_key,
    default_rights,
    modern_request,
    next_frame,
    open_sidecar,
)
from tests.support.mcp_surface import LIMIT_S, MODES, Heard, slow_graph, submit, subscribe, text_of

both_eras = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
async def sidecar(services: Services, settings: Settings) -> AsyncIterator[Sidecar]:
    async with open_sidecar(services, settings) as sidecar:
        yield sidecar


@both_eras
async def test_a_workflow_is_submitted_followed_and_looked_at(sidecar: Sidecar, mode: str) -> None:
    seen: list[float] = []

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)
        go_on()

    with held() as go_on:
        async with Client(sidecar.url, mode=mode) as client:
            workflow_id = await submit(client, slow_graph(steps=8))
            result = await client.call_tool(
                "wait_for_workflow", {"workflow_id": workflow_id}, progress_callback=heard
            )
            output = result.structured_content["outputs"][0]["outputId"]
            view = await client.call_tool("view_output", {"output_id": output})

    assert result.structured_content["status"] == "completed"
    assert seen == sorted(set(seen))
    assert len(seen) > 1
    assert seen[-1] == 100
    assert [item.type for item in view.content] == ["text", "image", "resource_link"]


@both_eras
async def test_tools_and_resources_are_those_of_every_other_transport(sidecar: Sidecar, mode: str) -> None:
    async with Client(sidecar.url, mode=mode) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        uris = {resource.uri for resource in (await client.list_resources()).resources}
        status = await client.call_tool("system_status", {})
        queue = (await client.read_resource("comfy://queue")).contents[0]

    assert "submit_workflow" in tools
    assert {"comfy://workflows", "comfy://queue", "comfy://gpu"} <= uris
    assert status.structured_content["client"] == "local"
    assert isinstance(queue, TextResourceContents)
    assert json.loads(queue.text)["queued"] == []


async def test_a_legacy_subscriber_hears_of_the_job_up_to_its_end(sidecar: Sidecar) -> None:
    heard = Heard()
    async with Client(sidecar.url, mode="legacy", message_handler=heard) as client:
        with held():
            workflow_id = await submit(client, slow_graph(steps=10))
            uri = f"comfy://workflows/{workflow_id}"
            await subscribe(client, uri)
        status = ""
        while status != "completed":
            assert await heard.next_update() == uri
            status = await _status(client, uri)


async def test_a_listener_hears_of_the_job_and_of_list_changes(sidecar: Sidecar) -> None:
    seen: list[object] = []
    async with Client(sidecar.url, mode="2026-07-28") as client, asyncio.timeout(LIMIT_S):
        async with client.listen(
            resource_subscriptions=["comfy://queue"], resources_list_changed=True
        ) as stream:
            await submit(client, slow_graph(steps=2))
            async for event in stream:
                seen.append(event)
                if {ResourceUpdated(uri="comfy://queue"), ResourcesListChanged()} <= set(seen):
                    break
        await sidecar.wait_idle()
    assert sidecar.open_requests == 0


@both_eras
async def test_a_key_sees_and_cancels_only_its_own_jobs(
    services: Services, settings: Settings, mode: str
) -> None:
    keys = default_rights("ann", "bob") | {"boss": frozenset(Right)}
    async with open_sidecar(services, settings, keys=keys) as sidecar:
        async with client_with_key(sidecar.url, mode, "ann-key") as ann:
            workflow_id = await submit(ann, slow_graph(steps=100, step_ms=100))
            own = await ann.call_tool("workflow_status", {"workflow_id": workflow_id})
        async with client_with_key(sidecar.url, mode, "bob-key") as bob:
            seen = await bob.call_tool("workflow_status", {"workflow_id": workflow_id})
            cancelled = await bob.call_tool("cancel_workflow", {"workflow_id": workflow_id})
            with pytest.raises(MCPError, match="workflow_not_found"):
                await bob.read_resource(f"comfy://workflows/{workflow_id}")
        async with client_with_key(sidecar.url, mode, "boss-key") as boss:
            result = await boss.call_tool("cancel_workflow", {"workflow_id": workflow_id})

    assert own.structured_content["client"] == "ann"
    assert text_of(seen).startswith("workflow_not_found:")
    assert text_of(cancelled).startswith("workflow_not_found:")
    assert result.structured_content["status"] == "cancelled"


async def test_nobody_hears_that_anothers_job_changes(services: Services, settings: Settings) -> None:
    async with (
        open_sidecar(services, settings, keys=default_rights("ann", "bob")) as sidecar,
        client_with_key(sidecar.url, "legacy", "ann-key") as ann,
        client_with_key(sidecar.url, "legacy", "bob-key") as bob,
    ):
        uri = f"comfy://workflows/{await submit(ann, slow_graph(steps=1))}"
        await subscribe(ann, uri)
        for hidden in (uri, "comfy://workflows/no-such-id"):
            with pytest.raises(MCPError, match="workflow_not_found"):
                await subscribe(bob, hidden)
        assert await acknowledged(sidecar, "bob-key", [uri, "comfy://queue", "comfy://what"]) == [
            "comfy://queue"
        ]
        assert await acknowledged(sidecar, "ann-key", [uri]) == [uri]
        assert await acknowledged(sidecar, "bob-key", [uri]) == []


@both_eras
async def test_nobody_gets_news_of_what_it_may_not_read(
    services: Services, settings: Settings, mode: str
) -> None:
    fixed = [each.resource for each in OPERATIONS if each.resource and "{" not in each.resource]
    keys = {"sender": frozenset({Right.SUBMIT}), "reader": frozenset({Right.READ})}
    async with open_sidecar(services, settings, keys=keys) as sidecar:
        if mode == "legacy":
            async with client_with_key(sidecar.url, mode, "sender-key") as sender:
                for uri in (*fixed, "comfy://outputs/any", "comfy://workflows/any"):
                    with pytest.raises(MCPError, match="forbidden"):
                        await subscribe(sender, uri)
        else:
            assert await acknowledged(sidecar, "sender-key", fixed) == []
            assert await acknowledged(sidecar, "reader-key", fixed) == fixed


async def acknowledged(sidecar: Sidecar, secret: str, uris: list[str]) -> list[str]:
    """What a listen stream follows of what it asks for."""
    request = modern_request("subscriptions/listen", {"notifications": {"resourceSubscriptions": uris}})
    request["headers"] |= {"Authorization": f"Bearer {secret}"}
    async with aiohttp.ClientSession() as http, http.post(sidecar.url, **request) as stream:
        frame = await next_frame(stream)
    assert frame is not None
    return list(frame["params"]["notifications"].get("resourceSubscriptions") or ())


async def test_a_stream_follows_a_bounded_number_of_resources(sidecar: Sidecar) -> None:
    request = modern_request(
        "subscriptions/listen",
        {"notifications": {"resourceSubscriptions": [f"comfy://workflows/{each}" for each in range(1_001)]}},
    )
    async with aiohttp.ClientSession() as http, http.post(sidecar.url, **request) as answer:
        refusal = await answer.json()
    assert refusal["error"]["data"]["code"] == "invalid_argument"


async def test_half_a_character_is_no_reason_to_refuse_a_request(sidecar: Sidecar) -> None:
    half = {"name": "workflow_status", "arguments": {"workflow_id": "half \ud83d"}}
    async with (
        aiohttp.ClientSession() as http,
        http.post(sidecar.url, **modern_request("tools/call", half)) as answer,
    ):
        said = (await answer.json())["result"]["content"][0]["text"]
    assert said.startswith("workflow_not_found: Workflow half \ufffd not found")


@both_eras
async def test_a_key_without_a_right_is_told_so(services: Services, settings: Settings, mode: str) -> None:
    keys = {"reader": frozenset({Right.READ})}
    async with (
        open_sidecar(services, settings, keys=keys) as sidecar,
        client_with_key(sidecar.url, mode, "reader-key") as client,
    ):
        refused = await client.call_tool("submit_workflow", {"workflow": slow_graph()})
        listed = await client.call_tool("list_models", {})
    assert refused.is_error
    assert text_of(refused).startswith("forbidden:")
    assert not listed.is_error


@both_eras
async def test_a_path_is_not_read_for_a_client_on_another_machine(sidecar: Sidecar, mode: str) -> None:
    async with Client(sidecar.url, mode=mode) as client:
        result = await client.call_tool("submit_workflow", {"path": "workflow.json"})
    assert result.is_error
    assert text_of(result).startswith("path_not_allowed:")


@pytest.mark.parametrize(("asked", "end"), [(True, JobStatus.CANCELLED), (False, JobStatus.COMPLETED)])
@both_eras
async def test_a_wait_that_is_given_up_ends_the_job_only_where_that_was_asked_for(
    sidecar: Sidecar, services: Services, mode: str, asked: bool, end: JobStatus
) -> None:
    async with Client(sidecar.url, mode=mode) as client:
        reported = asyncio.Event()

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            reported.set()

        with held() as go_on:
            workflow_id = await submit(client, slow_graph(steps=20))
            arguments: dict[str, Any] = {"workflow_id": workflow_id, "cancel_on_disconnect": asked}
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(
                    client.call_tool("wait_for_workflow", arguments, progress_callback=heard)
                )
                async with asyncio.timeout(LIMIT_S):
                    await reported.wait()
                waiting.cancel()
            if not asked:
                go_on()
            assert await _end_of(services, workflow_id) is end


@both_eras
async def test_a_wait_that_the_process_ends_answers_with_the_state_and_the_job_goes_on(
    sidecar: Sidecar, services: Services, mode: str
) -> None:
    async with Client(sidecar.url, mode=mode) as client:
        reported = asyncio.Event()

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            reported.set()

        with held():
            workflow_id = await submit(client, slow_graph(steps=30))
            arguments: dict[str, Any] = {"workflow_id": workflow_id, "cancel_on_disconnect": True}
            async with asyncio.TaskGroup() as tasks, asyncio.timeout(LIMIT_S):
                waiting = tasks.create_task(
                    client.call_tool("wait_for_workflow", arguments, progress_callback=heard)
                )
                await reported.wait()
                sidecar.drain.begin()
                result = await waiting
    assert result.structured_content["status"] in {"queued", "running"}
    assert await _end_of(services, workflow_id) is JobStatus.COMPLETED


async def _end_of(services: Services, workflow_id: str) -> JobStatus:
    with services.hub.subscribe(job_id=JobId(workflow_id)) as events:
        async with asyncio.timeout(LIMIT_S):
            while (job := await services.store.get_job(JobId(workflow_id))) is not None:
                if job.status not in {JobStatus.QUEUED, JobStatus.RUNNING}:
                    return job.status
                await events.changed()
    raise AssertionError("the job is gone")


async def _status(client: Client, uri: str) -> str:
    contents = (await client.read_resource(uri, cache_mode="bypass")).contents[0]
    assert isinstance(contents, TextResourceContents)
    return str(json.loads(contents.text)["status"])
