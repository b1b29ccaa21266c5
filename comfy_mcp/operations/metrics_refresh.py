"""What has to be asked for now and then, so that a scrape has to ask nobody: queue, engines, GPUs."""

import asyncio
from asyncio import sleep
from collections.abc import Awaitable, Callable

import structlog

from comfy_mcp.domain.errors import BridgeError
from comfy_mcp.domain.job import TERMINAL, JobQuery, JobStatus
from comfy_mcp.domain.spending import MILLION
from comfy_mcp.metrics import EngineGauge, Metrics
from comfy_mcp.operations.services import Services

log = structlog.get_logger(__name__)

RECALL_PAGE = 500

REFRESH_S = 5.0
"""Pause between two readings of each source: Prometheus scrapes every 15 seconds or more."""

UNREAD_S = 60.0
"""The same while nobody scrapes."""

ASKED_PER_S = 25
"""Engines, of more than five seconds allow; but each is asked at least every half minute."""


async def keep_gauges_fresh(services: Services, metrics: Metrics) -> None:
    """Run until cancelled; asks nobody before somebody may scrape.

    Each source has its own pace: one that hangs, within its own timeouts, holds up none of the others, and
    its gauges keep the last value, with `comfy_bridge_gauges_refreshed_timestamp_seconds` to tell.
    """
    await metrics.wait_until_watched()
    async with asyncio.TaskGroup() as group:
        group.create_task(_guarded(services, metrics, "open_jobs", recall_open_jobs))
        for source, refresh in SOURCES.items():
            group.create_task(_again_and_again(services, metrics, source, refresh), name=f"gauges:{source}")


async def recall_open_jobs(services: Services, metrics: Metrics) -> None:
    """The jobs that were queued or running before this process looked, for their times. Once."""
    meter = metrics.jobs
    meter.begin_recall()
    try:
        cursor: str | None = None
        while True:
            page = await services.store.list_jobs(
                JobQuery(statuses=frozenset(JobStatus) - TERMINAL, limit=RECALL_PAGE, cursor=cursor)
            )
            meter.recall(page.items)
            cursor = page.next_cursor
            if cursor is None:
                return
    finally:
        meter.end_recall()


async def refresh_queue(services: Services, metrics: Metrics) -> None:
    backlog = await services.store.backlog()
    metrics.set_queue(
        queued=backlog.queued, waiting=backlog.waiting, held=backlog.held, in_flight=backlog.in_flight
    )
    metrics.set_limits(await services.store.limited_use(now=services.now_ms()))
    metrics.set_store_bytes(await services.store.file_sizes())
    today = await services.store.spent(at=services.now_ms())
    metrics.set_spending(today / MILLION, services.settings.cloud_budget or 0.0)


async def refresh_engines(services: Services, metrics: Metrics) -> None:
    metrics.set_engines(
        EngineGauge(
            engine=report.engine,
            up=report.up,
            driven=report.driven_by is not None,
            queue=report.queue_remaining,
        )
        for report in await services.engines.report()
    )


async def refresh_gpus(services: Services, metrics: Metrics) -> None:
    metrics.set_gpus(await services.gpu.sample())


Refresh = Callable[[Services, Metrics], Awaitable[None]]

SOURCES: dict[str, Refresh] = {"store": refresh_queue, "engines": refresh_engines, "gpu": refresh_gpus}


async def _again_and_again(services: Services, metrics: Metrics, source: str, refresh: Refresh) -> None:
    while True:
        await _guarded(services, metrics, source, refresh)
        engines = 0 if source == "store" else len(services.engines.pool)
        await sleep(max(REFRESH_S, min(engines / ASKED_PER_S, UNREAD_S / 2)))
        await metrics.wait_until_read(UNREAD_S)


async def _guarded(services: Services, metrics: Metrics, source: str, refresh: Refresh) -> None:
    """Nothing that goes wrong while measuring may reach what is measured."""
    try:
        await refresh(services, metrics)
    except BridgeError as error:
        log.debug("gauges_not_refreshed", source=source, code=error.code.value)
    except Exception:
        log.exception("gauges_not_refreshed", source=source)
