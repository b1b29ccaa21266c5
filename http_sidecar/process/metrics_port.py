"""/metrics alone, on a port of its own beside MCP on stdio."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from comfy_mcp.metrics import Metrics
from http_sidecar.door.metrics import metrics_app
from http_sidecar.process.connections import Connections
from http_sidecar.process.runner import Runner

PORT_RETRY_S = 15.0
"""Pause before a port in use is tried again: its owner may exit."""

SEND_TIMEOUT_S = 30.0
"""A scraper that reads nothing for this long is disconnected."""

MOST_SCRAPERS = 32
"""Connections. At the bound a new one takes the place of the one that has been idle for longest."""

log = structlog.get_logger(__name__)


@asynccontextmanager
async def serving_metrics(
    metrics: Metrics, *, host: str, port: int, ready: Callable[[str, int], None] = lambda _host, _port: None
) -> AsyncIterator[None]:
    """Serve /metrics while the context is open; `ready` is called with the address.

    Metrics never stop what they measure: an address that can't be bound is logged and tried again until it
    can. Of several bridges with the same settings the first has the port, and any of them will do
    (the jobs' counters come from the shared log).
    """
    failure: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        server = tasks.create_task(_keep_serving(metrics, host, port, ready), name="metrics")
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below, outside the group, unwrapped
            failure = error
        finally:
            server.cancel()
    if failure is not None:
        raise failure


async def _keep_serving(metrics: Metrics, host: str, port: int, ready: Callable[[str, int], None]) -> None:
    bounded = Connections(most=MOST_SCRAPERS, most_per_address=MOST_SCRAPERS)
    runner = Runner(metrics_app(metrics), send_timeout_s=SEND_TIMEOUT_S, connections=bounded)
    await runner.setup()
    try:
        address = await _listen(runner, host, port)
        log.info("metrics_served", host=address[0], port=address[1])
        ready(*address)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> tuple[str, int]:
    told = False
    while True:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            if not told:
                reason = errno.errorcode.get(error.errno or 0, type(error).__name__)
                log.warning("metrics_not_served", host=host, port=port, reason=reason, retry_s=PORT_RETRY_S)
                told = True
            await asyncio.sleep(PORT_RETRY_S)
        else:
            name = runner.addresses[0]
            return str(name[0]), int(name[1])
