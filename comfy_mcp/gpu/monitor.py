"""The monitor: samples of the local driver and the engines; "no GPU" is an answer.

A request takes a sample if the last one is too old. By itself the monitor samples only while
somebody follows it or a job runs on an engine with a GPU: otherwise it is idle.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import structlog

from comfy_mcp.domain.errors import EngineFault
from comfy_mcp.domain.gpu import EngineVram, GpuSample, GpuSource
from comfy_mcp.domain.gpu_changes import changed
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.gpu.driver import Driver, DriverThread
from comfy_mcp.gpu.engines import vram_of_engine
from comfy_mcp.gpu.merging import Answers, merge
from comfy_mcp.gpu.nvml import Nvml, NvmlReading
from comfy_mcp.gpu.usage import GpuUsage, local_engines
from comfy_mcp.settings import Settings

log = structlog.get_logger(__name__)

SAMPLE_S = 2.0
"""A reading serves everybody for this long, and who follows gets one this often: people read no more."""

JOB_SHARE = 0.5
"""While a job runs, the driver is read twice as often, because peaks of VRAM are short."""

RECHECK_MS = 60_000
"""Interval of the search for a driver while jobs run and none was found."""


class SystemStats(Protocol):
    """An engine that can be asked for `GET /system_stats`."""

    async def system_stats(self) -> Mapping[str, Any]:
        """Raises EngineFault."""
        ...


class GpuChanges:
    """One follower. It keeps no backlog: all changes while it was busy are one change."""

    def __init__(self, wanted: Callable[[], bool], told: GpuSample | None) -> None:
        self.wanted = wanted
        self._told = told
        self._news = asyncio.Event()

    async def next(self) -> None:
        """Wait until the sample differs from the last one reported, by domain/gpu_changes.py."""
        await self._news.wait()
        self._news.clear()

    def offer(self, sample: GpuSample) -> None:
        if self._told is None:
            self._told = sample  # what a reader sees first is not a change
        elif changed(self._told, sample):
            self._told = sample
            self._news.set()


ENGINE_S = 1.5
"""For an engine's reading: one that hangs must not keep back what the driver says."""


class GpuMonitor:
    """One reading serves everybody for SAMPLE_S; calls during a reading wait for it."""

    def __init__(
        self,
        settings: Settings,
        *,
        engines: Mapping[EngineId, SystemStats],
        now_ms: Callable[[], int],
        driver: Driver | None = None,
        usage: GpuUsage | None = None,
        job_share: float = JOB_SHARE,
    ) -> None:
        self._max_age_ms = SAMPLE_S * 1000
        self._job_age_ms = self._max_age_ms * job_share
        self._engine_timeout_s = min(settings.connect_timeout_s, settings.request_timeout_s, ENGINE_S)
        self._engines = engines
        self._now_ms = now_ms
        self._driver = DriverThread(driver or Nvml(), timeout_s=settings.request_timeout_s)
        self._lock = asyncio.Lock()
        self._sample: GpuSample | None = None
        self._answers: Answers = {}
        self._answered_at: int | None = None
        self._followers: list[GpuChanges] = []
        self.usage = usage if usage is not None else GpuUsage(local=local_engines(settings.engines))

    async def sample(self) -> GpuSample:
        """What the GPUs do, at most SAMPLE_S old. Raises nothing: a fault is the sample's reason."""
        return await self._within(self._max_age_ms)

    async def latest(self, wait_s: float) -> GpuSample:
        """The same, within a time: then the last reading, or one that says that there is none yet."""
        try:
            async with asyncio.timeout(wait_s):
                return await self.sample()
        except TimeoutError:
            nothing = NvmlReading(devices=(), reason=f"No reading within {wait_s:g} s.")
            return self._sample or merge(
                nothing, {}, local=self.usage.local, at_ms=self._now_ms(), fresh=False
            )

    async def run(self) -> None:
        """Sample while it is worth it, until cancelled."""
        pause = min(self._max_age_ms, self._job_age_ms) / 1000
        while True:
            await asyncio.sleep(pause)
            await self.tick()

    async def tick(self) -> None:
        """Take a sample if somebody needs one and the last one is too old."""
        age = self._worth()
        if age is None:
            return
        try:
            await self._within(age)
        except Exception:
            log.exception("gpu_sample_failed")  # no GPU is worth the process

    @contextmanager
    def follow(self, wanted: Callable[[], bool]) -> Iterator[GpuChanges]:
        """Follow changes. The monitor samples while `wanted()`; samples for others count too."""
        follower = GpuChanges(wanted, self._sample)
        self._followers.append(follower)
        try:
            yield follower
        finally:
            self._followers.remove(follower)

    async def aclose(self) -> None:
        """Close the driver's session, unless it hangs."""
        await self._driver.aclose()

    def _worth(self) -> float | None:
        """How old a sample may be now, in ms; None: nobody needs one."""
        if self.usage.running_here and self._sees_driver():
            return self._job_age_ms
        if self.usage.running and (self._knows_gpu_of(self.usage.engines) or self._older(RECHECK_MS)):
            return self._max_age_ms
        if any(follower.wanted() for follower in self._followers):
            return self._max_age_ms
        return None

    def _sees_driver(self) -> bool:
        return self._sample is not None and self._sample.source is GpuSource.NVML

    def _knows_gpu_of(self, engines: Collection[EngineId]) -> bool:
        """One of them spoke of a GPU when it was asked last."""
        return self._sample is not None and any(each.engine in engines for each in self._sample.engines)

    def _older(self, age_ms: float) -> bool:
        return self._sample is None or not 0 <= self._now_ms() - self._sample.at_ms < age_ms

    async def _within(self, age_ms: float) -> GpuSample:
        async with self._lock:
            known = self._sample
            if known is None or self._older(age_ms):
                known, fresh = await self._take()
                self._sample = known
                self.usage.hear(known, fresh=fresh)
                for follower in self._followers:
                    follower.offer(known)
            return known

    async def _take(self) -> tuple[GpuSample, bool]:
        """The sample, and whether the engines were asked for it."""
        async with asyncio.TaskGroup() as group:
            local = group.create_task(self._driver.read())
            fresh = self._answers_are_old()
            if fresh:
                group.create_task(self._ask_engines())
        sample = merge(
            local.result(), self._answers, local=self.usage.local, at_ms=self._now_ms(), fresh=fresh
        )
        if fresh:
            self._keep_matches(sample)
        return sample, fresh

    def _keep_matches(self, sample: GpuSample) -> None:
        """Until the engines are asked again, each keeps the card that it was matched with."""
        self._answers = {
            engine: None if listed is None else [each for each in sample.engines if each.engine == engine]
            for engine, listed in self._answers.items()
        }

    def _answers_are_old(self) -> bool:
        """A job's samples come faster than an engine is asked."""
        at = self._answered_at
        return at is None or not 0 <= self._now_ms() - at < self._max_age_ms

    async def _ask_engines(self) -> None:
        answers: dict[EngineId, Sequence[EngineVram] | None] = dict.fromkeys(self._engines)

        async def ask(engine: EngineId, source: SystemStats) -> None:
            try:
                async with asyncio.timeout(self._engine_timeout_s):
                    answers[engine] = vram_of_engine(await source.system_stats(), engine)
            except (EngineFault, TimeoutError):
                return

        async with asyncio.TaskGroup() as group:
            for engine, source in self._engines.items():
                group.create_task(ask(engine, source))
        self._answers, self._answered_at = answers, self._now_ms()
