"""A revoked key's open streams and requests end; those of others go on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from mcp.client import Client
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError

from comfy_mcp.domain.access import ALL_RIGHTS, DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.services import Services
from comfy_mcp.settings import Settings, load_settings
from http_sidecar import api_keys
from http_sidecar.api_keys import KeyRing
from http_sidecar.door.revocation import Revocations
from tests.support.held import held
from tests.support.http_streams import STREAM, StreamHouse, key, open_house, sse_messages
from tests.support.mcp_http import (
    FakeKeys,
    Sidecar,
    client_with_key,
    default_rights,
    legacy_request,
    modern_request,
    next_frame,
    open_session,
    open_sidecar,
)
from tests.support.mcp_surface import LIMIT_S, slow_graph, submit

ANN = Caller(client=ClientId("ann"), surface="http", rights=DEFAULT_KEY_RIGHTS)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "REFRESH_S", 0.01)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[StreamHouse]:
    async with open_house(tmp_path) as house:
        yield house


async def test_a_revoked_keys_websocket_is_closed_and_that_of_another_goes_on(house: StreamHouse) -> None:
    async with house.stream("bob") as gone, house.stream("alice") as stays:
        await gone.subscribe("*")
        await gone.settled()
        house.keys.revoked.add("bob")
        code, reason = await gone.closed()
        assert (code, reason) == (1008, "unauthenticated: the key has been revoked")
        await stays.subscribe("*")
        job = await house.submit("alice")
        assert [message["workflowId"] for message in await stays.settled()] == [job]


async def test_a_revoked_keys_event_stream_says_so_and_ends(house: StreamHouse) -> None:
    job = await house.submit("alice")
    async with house.sse(job) as one, house.sse_of_all() as every:
        house.keys.revoked.add("alice")
        for response in (one, every):
            last = (await sse_messages(response))[-1]
            assert (last["type"], last["code"]) == ("stream:closed", "unauthenticated")
            assert "revoked" in last["message"]


async def test_a_ticket_of_a_key_that_was_revoked_since_opens_nothing(house: StreamHouse) -> None:
    async with house.http.post(f"{STREAM}/ticket", headers=key("bob")) as response:
        ticket = (await response.json())["ticket"]
    house.keys.revoked.add("bob")
    async with asyncio.timeout(LIMIT_S):
        while await identified(house, "bob"):
            await asyncio.sleep(0)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with house.http.ws_connect(f"{STREAM}?ticket={ticket}"):
            pass
    assert refused.value.status == 401


async def identified(house: StreamHouse, client: str) -> bool:
    async with house.http.get("/v1/status", headers=key(client)) as answer:
        return answer.status == 200


# ---------------------------------------------------------------------- MCP


@pytest.fixture
async def sidecar(services: Services, settings: Settings) -> AsyncIterator[Sidecar]:
    async with open_sidecar(services, settings, keys=default_rights("ann", "bob")) as sidecar:
        yield sidecar


def revoke(sidecar: Sidecar, name: str) -> None:
    assert sidecar.keys is not None
    sidecar.keys.revoke(name)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_revoked_keys_mcp_stream_is_cut_and_its_next_request_refused(
    sidecar: Sidecar, era: str
) -> None:
    auth_header = {"Authorization": "Bearer ann-key"}
    async with aiohttp.ClientSession(headers=auth_header) as http, asyncio.timeout(LIMIT_S):
        if era == "legacy":
            session = await open_session(http, sidecar.url)
            headers = legacy_request("", session=session)["headers"]
            request = http.get(sidecar.url, headers=headers)
        else:
            wanted = {"notifications": {"resourceSubscriptions": ["comfy://queue"]}}
            request = http.post(sidecar.url, **modern_request("subscriptions/listen", wanted))
        async with request as stream:
            assert stream.status == 200
            if era == "modern":
                assert await next_frame(stream) is not None
            revoke(sidecar, "ann")
            try:
                while await next_frame(stream) is not None:
                    continue
            except aiohttp.ClientPayloadError:  # cut, as it is for one that reads too slowly
                pass
        await sidecar.wait_idle()
        async with http.post(sidecar.url, **modern_request("tools/list")) as refused:
            assert refused.status == 401


async def test_a_wait_under_a_revoked_key_ends_and_the_job_goes_on(
    sidecar: Sidecar, services: Services
) -> None:
    async with client_with_key(sidecar.url, "2026-07-28", "ann-key") as ann, asyncio.timeout(LIMIT_S):
        reported = asyncio.Event()

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            reported.set()

        with held():
            job = await submit(ann, slow_graph(steps=60))
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(refused_wait(ann, job, heard))
                await reported.wait()
                revoke(sidecar, "ann")
                await waiting
        found = await services.store.get_job(JobId(job))
    assert found is not None
    assert not found.cancel_requested


async def refused_wait(client: Client, job: str, heard: ProgressFnT) -> None:
    with pytest.raises(MCPError):
        await client.call_tool("wait_for_workflow", {"workflow_id": job}, progress_callback=heard)


# ---------------------------------------------------------------------- who still counts


async def test_nobody_is_looked_for_while_nothing_is_open() -> None:
    keys = FakeKeys({"ann": DEFAULT_KEY_RIGHTS})
    revocations = Revocations(KeyRing(load_settings(), keys))
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(LIMIT_S):
        looking = tasks.create_task(revocations.run())
        keys.revoke("ann")
        with revocations.watched(ANN) as first, revocations.watched(ANN) as second:
            assert first is second
            await first.wait()
        with revocations.watched(ANN) as later:
            assert later is not first
            await later.wait()
        looking.cancel()


async def test_where_no_key_was_asked_for_the_first_one_ends_what_was_open_without() -> None:
    keys = FakeKeys({})
    ring = KeyRing(load_settings(client_name="local"), keys)
    local = Caller(client=ClientId("local"), surface="http", rights=ALL_RIGHTS)
    assert await ring.counts(api_keys.identity_of(local))
    keys.add("ann")
    async with asyncio.timeout(LIMIT_S):
        while await ring.counts(api_keys.identity_of(local)):
            await asyncio.sleep(0)
    assert await ring.counts(api_keys.identity_of(ANN))


async def test_the_key_of_the_settings_is_never_revoked() -> None:
    ring = KeyRing(load_settings(http_key="k", client_name="me"), FakeKeys({}))
    identity = await ring.identify("k")
    assert identity is not None
    assert await ring.counts(identity)
