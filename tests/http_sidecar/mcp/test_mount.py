"""What stands around MCP at /mcp: who gets in, what is too much, and how streams end."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
import yarl

from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller, OperationContext
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.operations.services import Services
from comfy_mcp.settings import Settings
from http_sidecar.bounds import Bounds
from tests.support.graphs import picture
from tests.support.mcp_http import (
    ACCEPT,
    Sidecar,
    default_rights,
    legacy_request,
    modern_request,
    next_frame,
    open_session,
    open_sidecar,
)

LIMIT_S = 60.0
STREAMS = 1_000


@pytest.fixture
async def sidecar(services: Services, settings: Settings) -> AsyncIterator[Sidecar]:
    async with open_sidecar(services, settings) as sidecar:
        yield sidecar


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client with as many connections as it wants."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(LIMIT_S):
        yield session


LISTEN = {"notifications": {"resourcesListChanged": True}}
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
LIST_CHANGED = "notifications/resources/list_changed"


async def test_a_name_that_was_pointed_at_this_machine_is_refused(
    sidecar: Sidecar, http: aiohttp.ClientSession
) -> None:
    for host in ("evil.example", "evil.example:9090", "localhost.evil.example"):
        async with http.post(sidecar.url, **_with(modern_request("server/discover"), Host=host)) as answer:
            assert answer.status == 403
            assert (await answer.json())["code"] == "forbidden"
    for host in ("localhost", "127.0.0.1:9090", "[::1]:9090"):
        async with http.post(sidecar.url, **_with(modern_request("server/discover"), Host=host)) as answer:
            assert answer.status == 200


async def test_web_pages_are_let_in_by_their_origin_also_with_a_key(
    services: Services, settings: Settings, http: aiohttp.ClientSession
) -> None:
    allowing = settings.model_copy(update={"cors_origins": ("https://app.example",)})
    expected = {
        "https://evil.example": 403,
        "null": 403,
        "http://evil.example:9090": 403,
        "https://app.example": 200,
        "http://localhost:3000": 403,
        "http://127.0.0.1": 200,
    }
    async with open_sidecar(services, allowing, keys=default_rights("ann")) as sidecar:
        for origin, status in expected.items():
            request = _with(modern_request("server/discover"), Origin=origin, **{"X-API-Key": "ann-key"})
            # A page that pointed its own name at this machine has it as its Host.
            request["headers"]["Host"] = origin.rpartition("//")[2] if "evil" in origin else "127.0.0.1"
            async with http.post(sidecar.url, **request) as answer:
                assert (origin, answer.status) == (origin, status)


async def test_without_the_key_nothing_is_answered_and_no_authorization_server_is_named(
    services: Services, settings: Settings, http: aiohttp.ClientSession
) -> None:
    async with open_sidecar(services, settings, keys=default_rights("ann")) as sidecar:
        for key in ({}, {"Authorization": "Bearer wrong"}):
            async with http.post(sidecar.url, **_with(modern_request("server/discover"), **key)) as answer:
                assert answer.status == 401
        for path in (
            "oauth-protected-resource",
            "oauth-protected-resource/mcp",
            "oauth-authorization-server",
        ):
            async with http.get(sidecar.url.replace("/mcp", f"/.well-known/{path}")) as answer:
                assert answer.status == 404


async def test_a_session_answers_only_to_the_key_that_opened_it(
    services: Services, settings: Settings, http: aiohttp.ClientSession
) -> None:
    async with open_sidecar(services, settings, keys=default_rights("ann", "bob")) as sidecar:
        session = await open_session(http, sidecar.url, **{"X-API-Key": "ann-key"})
        request = legacy_request("tools/list", session=session)
        async with http.post(sidecar.url, **_with(request, **{"X-API-Key": "bob-key"})) as answer:
            assert answer.status == 404
        async with http.post(sidecar.url, **_with(request, **{"X-API-Key": "ann-key"})) as answer:
            assert answer.status == 200


async def test_messages_have_a_limit_of_their_own(
    services: Services, settings: Settings, http: aiohttp.ClientSession
) -> None:
    limited = settings.model_copy(update={"rate_limit_per_minute": 1})
    async with open_sidecar(services, limited, bounds=Bounds(messages_per_request=2)) as sidecar:
        async with http.get(sidecar.url.replace("/mcp", "/v1/gpu")) as answer:
            assert answer.status == 200
        statuses = []
        for _ in range(3):
            async with http.post(sidecar.url, **modern_request("tools/list")) as answer:
                statuses.append(answer.status)
        assert statuses == [200, 200, 429]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_beyond_the_limit_is_a_413(
    services: Services, settings: Settings, http: aiohttp.ClientSession, chunked: bool
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 1024

    small = settings.model_copy(update={"max_graph_bytes": 16 * 1024})
    headers = {**modern_request("tools/list")["headers"], "Content-Type": "application/json"}
    async with open_sidecar(services, small, bounds=Bounds(body_bytes=32 * 1024)) as sidecar:
        data: Any = pieces() if chunked else b" " * 64 * 1024
        async with http.post(sidecar.url, data=data, headers=headers) as answer:
            assert answer.status == 413


async def test_a_body_that_never_ends_is_a_408(
    services: Services, settings: Settings, http: aiohttp.ClientSession
) -> None:
    never = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"jsonrpc": '
        await never.wait()

    headers = {"Accept": ACCEPT, "Content-Type": "application/json"}
    async with open_sidecar(services, settings, bounds=Bounds(body_timeout_s=0.05)) as sidecar:
        async with http.post(sidecar.url, data=pieces(), headers=headers) as answer:
            assert answer.status == 408
            assert (await answer.json())["statusCode"] == 408
        await sidecar.wait_idle()


async def test_a_client_that_goes_within_its_request_is_no_error(
    sidecar: Sidecar, caplog: pytest.LogCaptureFixture
) -> None:
    place = yarl.URL(sidecar.url)
    head = f"POST /mcp HTTP/1.1\r\nHost: {place.authority}\r\nAccept: {ACCEPT}\r\n"
    begun = "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    _, writer = await asyncio.open_connection(place.host, place.port)
    writer.write((head + begun).encode())
    async with asyncio.timeout(LIMIT_S):
        while not sidecar.open_requests:
            await asyncio.sleep(0)
        writer.transport.abort()
        await sidecar.wait_idle()
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_sessions_and_streams_are_bounded(
    services: Services, settings: Settings, http: aiohttp.ClientSession
) -> None:
    async with open_sidecar(services, settings, bounds=Bounds(mcp_sessions=1, mcp_streams=1)) as sidecar:
        await open_session(http, sidecar.url)
        async with http.post(sidecar.url, **legacy_request("initialize")) as answer:
            assert answer.status == 503
        async with http.post(sidecar.url, **modern_request("subscriptions/listen", LISTEN)) as first:
            assert (await next_frame(first) or {})["method"] == ACKNOWLEDGED
            async with http.post(sidecar.url, **modern_request("subscriptions/listen", LISTEN)) as second:
                assert (await second.json())["error"]["data"]["code"] == "too_many_streams"


async def test_a_client_that_opens_all_it_can_leaves_sessions_and_streams_to_others(
    services: Services, settings: Settings, http: aiohttp.ClientSession
) -> None:
    keys, bounds = default_rights("mean", "kind"), Bounds(mcp_sessions=4, mcp_streams=4)
    mean, kind = ({"X-API-Key": f"{name}-key"} for name in keys)
    async with open_sidecar(services, settings, keys=keys, bounds=bounds) as sidecar:
        for _ in range(3):  # one that ends makes room
            sessions = [await open_session(http, sidecar.url, **mean) for _ in range(2)]
            async with http.post(sidecar.url, **_with(legacy_request("initialize"), **mean)) as answer:
                assert answer.status == 503
                body = await answer.json()
                assert (body["code"], body["retryable"]) == ("too_many_streams", True)
                assert body["message"].startswith("You have 2 of the 4 places for MCP sessions")
            theirs = await open_session(http, sidecar.url, **kind)
            for session, owner in ((sessions[0], mean), (sessions[1], mean), (theirs, kind)):
                headers = legacy_request("", session=session)["headers"] | owner
                async with http.delete(sidecar.url, headers=headers) as answer:
                    assert answer.status == 200
        for _ in range(9):  # a request that opens none holds no place
            async with http.post(sidecar.url, **_with(legacy_request("tools/list"), **mean)) as answer:
                assert answer.status == 400

        asked = modern_request("subscriptions/listen", LISTEN)
        async with AsyncExitStack() as stack:
            for owner, refused in ((mean, False), (mean, False), (mean, True), (kind, False)):
                answer = await stack.enter_async_context(http.post(sidecar.url, **_with(asked, **owner)))
                if refused:
                    assert (await answer.json())["error"]["data"]["code"] == "too_many_streams"
                else:
                    assert (await next_frame(answer) or {})["method"] == ACKNOWLEDGED


async def test_a_thousand_listeners_hear_of_a_job_and_leave_nothing_behind(
    sidecar: Sidecar, services: Services, http: aiohttp.ClientSession
) -> None:
    streams = [await _listen(http, sidecar.url) for _ in range(STREAMS)]
    assert sidecar.open_requests == STREAMS

    await _submit(services)
    frames = [await next_frame(stream) for stream in streams]
    async with http.post(sidecar.url, **modern_request("tools/list")) as answer:
        assert answer.status == 200
    for stream in streams:
        stream.close()
    await sidecar.wait_idle()

    assert {(frame or {}).get("method") for frame in frames} == {LIST_CHANGED}


async def test_when_the_process_goes_listeners_get_their_last_frame_and_nobody_is_let_in(
    sidecar: Sidecar, http: aiohttp.ClientSession
) -> None:
    session = await open_session(http, sidecar.url)
    headers = legacy_request("", session=session)["headers"]
    async with await _listen(http, sidecar.url) as modern, http.get(sidecar.url, headers=headers) as legacy:
        assert legacy.status == 200
        sidecar.drain.begin()
        last = await next_frame(modern)
        assert last is not None
        assert last["id"] == 1
        assert "result" in last
        assert await next_frame(modern) is None
        with pytest.raises(aiohttp.ClientPayloadError):  # cut: 2025-11-25 has no last frame
            await next_frame(legacy)
        await sidecar.wait_idle()

    for request in (modern_request("tools/list"), legacy_request("tools/list", session=session)):
        async with http.post(sidecar.url, **request) as answer:
            assert answer.status == 503
            assert (await answer.json())["code"] == "shutting_down"
    async with http.get(sidecar.url, headers=headers) as answer:
        assert answer.status == 503


async def _listen(http: aiohttp.ClientSession, url: str) -> aiohttp.ClientResponse:
    answer = await http.post(url, **modern_request("subscriptions/listen", LISTEN))
    assert (await next_frame(answer) or {})["method"] == ACKNOWLEDGED
    return answer


async def _submit(services: Services) -> None:
    caller = Caller(client=ClientId("test"), surface="test")
    context = OperationContext(services=services, caller=caller)
    await BY_NAME["submit_workflow"].call(context, {"workflow": picture()})


def _with(request: dict[str, Any], **headers: str) -> dict[str, Any]:
    return {**request, "headers": {**request["headers"], **headers}}
