"""/metrics on a port of its own: bounded, and never in the way of what it measures."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import ClientSession

from comfy_mcp.domain.errors import NotFound
from comfy_mcp.metrics import Metrics
from http_sidecar.process import metrics_port, runner
from tests.support.mcp_surface import LIMIT_S


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(engines=[], version="0", now_ms=lambda: 1_000)


@asynccontextmanager
async def on_a_port(metrics: Metrics, port: int = 0) -> AsyncIterator["asyncio.Future[tuple[str, int]]"]:
    address: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
    async with metrics_port.serving_metrics(
        metrics, host="127.0.0.1", port=port, ready=lambda *where: address.set_result(where)
    ):
        yield address


async def scraped(address: "asyncio.Future[tuple[str, int]]", path: str = "/metrics") -> tuple[int, str]:
    async with asyncio.timeout(LIMIT_S), ClientSession() as session:
        host, port = await address
        async with session.get(f"http://{host}:{port}{path}") as answer:
            return answer.status, await answer.text()


async def test_the_port_serves_metrics_and_nothing_else(metrics: Metrics) -> None:
    async with on_a_port(metrics) as address:
        status, text = await scraped(address)
        assert status == 200
        assert "comfyui_workflow_total" in text
        assert (await scraped(address, "/"))[0] == 404
        host, port = address.result()
        assert host == "127.0.0.1"
    with socket.socket() as probe:
        assert probe.connect_ex((host, port)) != 0


async def test_a_port_that_is_taken_is_taken_over_when_it_is_free(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_port, "PORT_RETRY_S", 0.01)
    second = Metrics(engines=[], version="second", now_ms=lambda: 1_000)
    async with AsyncExitStack() as first:
        taken = await first.enter_async_context(on_a_port(metrics))
        async with asyncio.timeout(LIMIT_S):
            _, port = await taken
        async with on_a_port(second, port) as address:
            assert 'version="0"' in (await scraped(taken))[1]
            assert not address.done()
            await first.aclose()
            assert 'version="second"' in (await scraped(address))[1]


async def test_an_error_inside_comes_out_as_itself(metrics: Metrics) -> None:
    with pytest.raises(NotFound, match="gone"):
        async with on_a_port(metrics):
            raise NotFound("gone", next_step="")


async def test_silent_connections_make_room_for_a_scrape(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "FIRST_HEADERS_S", 10 * LIMIT_S)  # they are not closed for their silence
    async with on_a_port(metrics) as address, asyncio.timeout(LIMIT_S):
        host, port = await address
        silent = [await asyncio.open_connection(host, port) for _ in range(2 * metrics_port.MOST_SCRAPERS)]
        assert (await scraped(address))[0] == 200
        for reader, _ in silent[: metrics_port.MOST_SCRAPERS]:
            assert await reader.read() == b"", "the oldest were closed"
        for _, writer in silent:
            writer.close()
