"""The gauges' keeper: what it asks, and what its sources can't do to it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.driving.engines import Engines
from comfy_mcp.gpu import GpuMonitor
from comfy_mcp.metrics import Metrics, negotiate
from comfy_mcp.operations import metrics_refresh
from comfy_mcp.operations.metrics_refresh import (
    keep_gauges_fresh,
    recall_open_jobs,
    refresh_engines,
    refresh_gpus,
    refresh_queue,
)
from comfy_mcp.operations.services import Services
from comfy_mcp.store import Store
from tests.operations.conftest import Bench
from tests.support.mcp_surface import LIMIT_S, slow_graph
from tests.support.metrics import metrics_of

SOURCES = "comfy_bridge_gauges_refreshed_timestamp_seconds"


def own_metrics() -> Metrics:
    """That no other task refreshes."""
    return Metrics(engines=[], version="0", now_ms=lambda: 1)


def value(services: Services, name: str, **labels: str) -> float | None:
    return metrics_of(services).registry.get_sample_value(name, labels)


async def test_queue_engines_and_gpus_become_gauges(call: Bench) -> None:
    services = call.services
    (engine,) = services.engines.pool
    await refresh_queue(services, metrics_of(services))
    await refresh_engines(services, metrics_of(services))
    await refresh_gpus(services, metrics_of(services))
    assert value(services, "comfyui_queue_length") == 0
    assert value(services, "comfy_bridge_store_bytes", file="database") == (
        services.store.info.path.stat().st_size
    )
    assert value(services, "comfy_bridge_store_bytes", file="wal") is not None
    assert value(services, "comfy_bridge_engine_up", engine=engine) == 1
    assert value(services, "comfy_bridge_engine_queue_length", engine=engine) == 0
    assert {value(services, SOURCES, source=each) is None for each in metrics_refresh.SOURCES} == {False}


async def test_an_engine_that_is_down_is_an_answer(call_without_engine: Bench) -> None:
    services = call_without_engine.services
    await call_without_engine("submit_workflow", workflow=slow_graph(), priority="high")
    await refresh_queue(services, metrics_of(services))
    await refresh_engines(services, metrics_of(services))
    assert value(services, "comfyui_queue_length") == 1
    assert value(services, "comfy_bridge_workflows_waiting", priority="high") == 1
    assert value(services, "comfy_bridge_engine_up", engine="127.0.0.1:9") == 0


async def test_jobs_that_were_open_are_recalled_page_by_page(
    call_without_engine: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_refresh, "RECALL_PAGE", 2)
    submitted = [await call_without_engine("submit_workflow", workflow=slow_graph()) for _ in range(5)]
    services = replace(call_without_engine.services, metrics=own_metrics())
    meter = metrics_of(services).jobs
    await recall_open_jobs(services, metrics_of(services))
    assert set(meter._open) == {each.workflow_id for each in submitted}
    assert meter._ended is None


@dataclass(slots=True)
class Source:
    """Counts how often it is asked, and then does what the test says."""

    does: Callable[[], Awaitable[Any]]
    asked: int = 0
    twice: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, *_arguments: Any) -> Any:
        self.asked += 1
        if self.asked == 2:
            self.twice.set()
        return await self.does()


@dataclass(slots=True)
class Sources:
    backlog: Source
    report: Source
    sample: Source
    list_jobs: Source
    pool: Mapping[EngineId, object] = field(default_factory=dict)


async def hangs() -> Any:
    await asyncio.Event().wait()


async def refuses() -> Any:
    raise StoreFault("The disk is full.", next_step="Make room.")


async def breaks() -> Any:
    raise RuntimeError("a defect")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_refresh, "REFRESH_S", 0.001)
    monkeypatch.setattr(metrics_refresh, "UNREAD_S", 0.001)


def over(services: Services, sources: Sources) -> Services:
    """The same services with scripted sources, refreshed without a pause."""
    return replace(
        services,
        metrics=own_metrics(),
        store=cast("Store", sources),
        engines=cast("Engines", sources),
        gpu=cast("GpuMonitor", sources),
    )


async def test_a_source_that_hangs_or_fails_holds_up_no_other(call_without_engine: Bench) -> None:
    sources = Sources(
        backlog=Source(refuses), report=Source(hangs), sample=Source(breaks), list_jobs=Source(breaks)
    )
    services = over(call_without_engine.services, sources)
    metrics_of(services).watch()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(LIMIT_S):
        keeper = tasks.create_task(keep_gauges_fresh(services, metrics_of(services)))
        await sources.backlog.twice.wait()
        await sources.sample.twice.wait()
        keeper.cancel()
    assert sources.report.asked == 1
    assert sources.list_jobs.asked == 1
    assert {value(services, SOURCES, source=each) for each in metrics_refresh.SOURCES} == {None}


async def test_nobody_is_asked_before_somebody_may_look(call_without_engine: Bench) -> None:
    sources = Sources(
        backlog=Source(refuses), report=Source(refuses), sample=Source(refuses), list_jobs=Source(refuses)
    )
    services = over(call_without_engine.services, sources)
    async with asyncio.TaskGroup() as tasks:
        keeper = tasks.create_task(keep_gauges_fresh(services, metrics_of(services)))
        for _ in range(20):
            await asyncio.sleep(0)
        assert sources.backlog.asked == 0
        metrics_of(services).watch()
        async with asyncio.timeout(LIMIT_S):
            await sources.backlog.twice.wait()
        keeper.cancel()


class Awaited(Metrics):
    """Says how many of the sources wait for somebody who reads."""

    def __init__(self) -> None:
        super().__init__(engines=[], version="0", now_ms=lambda: 1)
        self.waiting = 0
        self.all_wait = asyncio.Event()

    async def wait_until_read(self, limit_s: float) -> None:
        self.waiting += 1
        if self.waiting == len(metrics_refresh.SOURCES):
            self.all_wait.set()
        await super().wait_until_read(limit_s)


async def test_for_nobody_each_is_asked_once_and_again_at_a_scrape(
    call_without_engine: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_refresh, "UNREAD_S", LIMIT_S * 10)
    sources = Sources(
        backlog=Source(refuses), report=Source(refuses), sample=Source(refuses), list_jobs=Source(refuses)
    )
    metrics = Awaited()
    services = replace(over(call_without_engine.services, sources), metrics=metrics)
    metrics.watch()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(LIMIT_S):
        keeper = tasks.create_task(keep_gauges_fresh(services, metrics))
        await metrics.all_wait.wait()
        assert (sources.backlog.asked, sources.report.asked, sources.sample.asked) == (1, 1, 1)
        metrics.render(negotiate(""))
        for source in (sources.backlog, sources.report, sources.sample):
            await source.twice.wait()
        keeper.cancel()


@pytest.mark.parametrize(("engines", "pause"), [(0, 0.001), (500, 20), (5_000, 30)])
async def test_of_many_engines_each_is_asked_as_seldom_as_it_takes(
    call_without_engine: Bench, monkeypatch: pytest.MonkeyPatch, engines: int, pause: float
) -> None:
    """The store has no such pause."""
    pauses: list[float] = []

    async def note(pause: float) -> None:
        pauses.append(pause)
        await asyncio.Event().wait()

    monkeypatch.setattr(metrics_refresh, "sleep", note)
    monkeypatch.setattr(metrics_refresh, "UNREAD_S", 60.0)
    sources = Sources(
        backlog=Source(refuses),
        report=Source(refuses),
        sample=Source(refuses),
        list_jobs=Source(refuses),
        pool=dict.fromkeys(map(EngineId, map(str, range(engines)))),
    )
    services = over(call_without_engine.services, sources)
    metrics_of(services).watch()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(LIMIT_S):
        keeper = tasks.create_task(keep_gauges_fresh(services, metrics_of(services)))
        while len(pauses) < len(metrics_refresh.SOURCES):
            await asyncio.sleep(0)
        keeper.cancel()
    assert sorted(pauses) == [0.001, pause, pause]
