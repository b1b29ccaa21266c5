"""One store, one scripted engine, and a driver that serves it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.events import JobQueued, Priority
from comfy_mcp.domain.extra_data import Submitted
from comfy_mcp.domain.file_inputs import FOLDER
from comfy_mcp.domain.ids import ClientId, JobId, PromptId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.needs import Needs
from comfy_mcp.driving import attempt, hearing, sizes
from comfy_mcp.driving.clock import Clock, system_clock
from comfy_mcp.driving.driver import Driver
from comfy_mcp.driving.fleet import Fleet
from comfy_mcp.driving.learning import Durations
from comfy_mcp.driving.means import Means
from comfy_mcp.gpu import GpuUsage
from comfy_mcp.operations.feed.hub import Hub
from comfy_mcp.settings import Settings, load_settings
from comfy_mcp.store import Store
from tests.support.invariants import check_store
from tests.support.jobs import outputs_of
from tests.support.scripted_place import ScriptedPlace

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64}, "_meta": {"title": "Blank"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
}

WITH_FILE = {
    "1": {"class_type": "LoadImage", "inputs": {"image": f"{FOLDER}/{'ab' * 32}.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
}
"""Names a file that the place has to bring to its engine."""


async def posted(place: ScriptedPlace, count: int = 1) -> PromptId:
    """The prompt with that number, once it has been posted."""
    await place.until(lambda: len(place.posted) >= count)
    return place.posted[count - 1]


class House:
    """What a test of the bridge needs, with short names. `ahead_s` turns its clock forward."""

    def __init__(self, store: Store, hub: Hub, settings: Settings, group: asyncio.TaskGroup) -> None:
        self.store = store
        self.hub = hub
        self.settings = settings
        self.group = group
        self.ahead_s = 0.0
        real = system_clock()
        self.clock = Clock(
            now_ms=lambda: real.now_ms() + round(self.ahead_s * 1000),
            monotonic=lambda: real.monotonic() + self.ahead_s,
        )
        self.fleet = Fleet(self.clock.monotonic)
        self.drivers: list[tuple[Driver, asyncio.Task[None]]] = []

    def drive(
        self, place: ScriptedPlace, holder: str = "me", *, listen: bool = True, gpu: GpuUsage | None = None
    ) -> tuple[Driver, asyncio.Task[None]]:
        driver = Driver(place, self.means(gpu), holder=holder)
        if listen:
            self.hub.listen(driver.hear)
        task = self.group.create_task(driver.run())
        self.drivers.append((driver, task))
        return driver, task

    def means(self, gpu: GpuUsage | None = None) -> Means:
        return Means(
            store=self.store,
            settings=self.settings,
            clock=self.clock,
            new_id=lambda: str(uuid4()),
            gpu=gpu or GpuUsage(),
            durations=Durations(self.store, self.clock.monotonic),
            fleet=self.fleet,
        )

    async def submit(
        self,
        graph: dict[str, Any] | None = None,
        priority: Priority = Priority.NORMAL,
        submitted: Submitted | None = None,
        *,
        needs: Needs | None = None,
        **more: Any,
    ) -> JobId:
        event = JobQueued(
            job_id=JobId(str(uuid4())),
            at=self.clock.now_ms(),
            client=ClientId("tester"),
            lane="local",
            priority=priority,
            node_count=2,
            **more,
        )
        job, _ = await self.store.add_job(
            event, graph or GRAPH, max_queued=100, submitted=submitted, needs=needs
        )
        return job.id

    async def sent_to(self, place: ScriptedPlace) -> tuple[JobId, PromptId]:
        """One job, driven up to its POST."""
        self.drive(place)
        job_id = await self.submit()
        return job_id, await posted(place)

    async def job(self, job_id: JobId) -> Job:
        job = await self.store.get_job(job_id)
        assert job is not None
        return job

    async def until(self, job_id: JobId, condition: Callable[[Job], bool]) -> Job:
        with self.hub.subscribe(job_id=job_id) as events:
            async with asyncio.timeout(20):
                while not condition(job := await self.job(job_id)):
                    await events.changed()
        return job

    async def final(self, job_id: JobId) -> Job:
        return await self.until(job_id, lambda job: job.is_final)

    async def outputs(self, job_id: JobId) -> list[Output]:
        """Once the size of each file is known."""
        async with asyncio.timeout(20):
            outputs = await outputs_of(self.store, job_id)
            while any(each.size is None for each in outputs):
                outputs = await outputs_of(self.store, job_id)
        return outputs

    async def event_types(self, job_id: JobId) -> list[str]:
        return [stored.event.type for stored in await self.store.events_after(0, job_id=job_id)]


@pytest.fixture(autouse=True)
def _nothing_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "PAUSE_S", 0.0)
    monkeypatch.setattr(hearing, "QUIET_S", 0.05)
    monkeypatch.setattr(attempt, "PROGRESS_S", 0.01)


@pytest.fixture
def _no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked up for having been quiet."""
    monkeypatch.setattr(hearing, "QUIET_S", 1000.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(state_dir=tmp_path / "state", lease_ttl_s=30.0)


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    store = await Store.open(settings)
    hub = Hub(store, poll_s=0.01)
    await hub.open()
    try:
        async with asyncio.TaskGroup() as group:
            follow = group.create_task(hub.run())
            house = House(store, hub, settings, group)
            yield house
            for _, task in house.drivers:
                task.cancel()
            follow.cancel()
        await check_store(store)
    finally:
        await store.close()


@pytest.fixture
def place() -> ScriptedPlace:
    return ScriptedPlace()
