"""What lets nobody in for a while: a process that goes, and a store that does not answer."""

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.operations.services import Services
from comfy_mcp.settings import Settings
from comfy_mcp.store import side_tables
from http_sidecar.pages.status_page import DIGEST, FILES
from tests.contract_v1.shapes import assert_problem
from tests.support.graphs import picture
from tests.support.raw_http import Listening, listening
from tests.support.sidecar import WORKFLOW, Sidecar, serving


@pytest.fixture
async def server(services: Services, settings: Settings) -> AsyncIterator[Listening]:
    async with listening(services, settings) as server:
        yield server


def request(method: str, path: str, body: bytes = b"") -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


async def test_a_process_that_goes_takes_nothing_new_and_still_answers_what_reads_or_ends(
    server: Listening,
) -> None:
    server.drain.begin()
    for path in (WORKFLOW, "/v1/comfyui/inputs", f"{WORKFLOW}/x/retry", "/v1/comfyui/stream/ticket", "/mcp"):
        answer = await server.ask(request("POST", path, b'{"workflow": {}}'))
        assert (path, answer.status, answer.body["code"]) == (path, 503, "shutting_down")
        assert int(answer.headers["Retry-After"]) > 0
    for method, path, status in (
        ("GET", "/v1/comfyui/workflows", 200),
        ("GET", "/metrics", 200),
        ("GET", "/health", 200),
        ("GET", "/ready", 503),
        ("DELETE", f"{WORKFLOW}/nope", 404),
    ):
        assert (path, (await server.ask(request(method, path))).status) == (path, status)


async def test_a_line_that_the_client_wrote_above_the_proxys_does_not_count(
    services: Services, settings: Settings
) -> None:
    changes = {"rate_limit_per_minute": 2, "trusted_proxies": ("127.0.0.1",)}
    async with listening(services, settings.model_copy(update=changes)) as server:
        statuses = [
            (
                await server.ask(
                    b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n"
                    b"X-Forwarded-For: 198.51.100.%d\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n" % n
                )
            ).status
            for n in range(3)
        ]
    assert statuses == [200, 200, 429]


async def test_a_page_and_its_files_have_a_limit_of_their_own(services: Services, settings: Settings) -> None:
    file = f"/page/{DIGEST}/{next(iter(FILES))}"
    async with listening(services, settings.model_copy(update={"rate_limit_per_minute": 2})) as server:
        paths = [*["/v1/status"] * 3, "/", "/docs", *[file] * (2 * 12 - 1)]
        statuses = [(await server.ask(request("GET", path))).status for path in paths]
    assert statuses == [200, 200, 429, *[200] * (2 * 12), 429], (
        "a page opens when programs have used theirs up"
    )


class Broken:
    """A store that does not answer."""

    def __getattr__(self, name: str) -> Any:
        async def fail(*_arguments: object, **_named: object) -> None:
            raise StoreFault("The store does not answer.", next_step="Look at its disk.")

        return fail


@pytest.fixture
async def broken(services: Services, settings: Settings) -> AsyncIterator[Sidecar]:
    store: Any = Broken()
    async with serving(replace(services, store=store), settings) as sidecar:
        yield sidecar


async def test_without_the_store_the_process_lives_is_not_ready_and_lets_nobody_in(broken: Sidecar) -> None:
    """Which keys there are is not known: so nobody is who he says."""
    assert (await broken("GET", "/health")).status == 200
    ready = await broken("GET", "/ready")
    assert (ready.status, ready.body["ready"], ready.body["activeTasks"]) == (503, False, None)
    for method, path in (("POST", WORKFLOW), ("GET", f"{WORKFLOW}/x"), ("GET", "/v1/status")):
        answer = await broken(method, path, json={"workflow": picture()})
        body = assert_problem(answer, 503, "Service Unavailable")
        assert (body["code"], body["retryable"]) == ("store_unavailable", True)


async def test_while_writes_fail_it_is_not_ready_and_says_why(
    services: Services, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(services, settings) as sidecar:
        assert (await sidecar("GET", "/ready")).status == 200

        def full(_connection: object) -> None:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = 13
            raise error

        with pytest.raises(StoreFault):
            await services.store._writer.do(full)
        ready = await sidecar("GET", "/ready")
        assert (ready.status, ready.body["ready"]) == (503, False)
        assert ready.body["reason"] == "The disk of the store is full; nothing was written."
        assert (await sidecar("GET", "/health")).status == 200
        monkeypatch.setattr(side_tables, "FAILING_S", -1.0)
        monkeypatch.setattr(side_tables, "WRITE_CHECK_S", 0.0)
        assert (await sidecar("GET", "/ready")).status == 200, "a write that succeeds now counts"
        monkeypatch.setattr(side_tables, "_touch", full)
        assert (await sidecar("GET", "/ready")).status == 503, "and so does one that fails now"
