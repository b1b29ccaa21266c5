"""All metrics of one process, and the only access to them.

Counters are fed by whoever sees something happen. Gauges hold what
`operations/metrics_refresh.py` last found out: rendering reads memory only, so a scrape
waits for no engine, store or driver.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import assert_never

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    exposition,
)
from prometheus_client.openmetrics import exposition as openmetrics

from comfy_mcp.domain.events import EngineEvent, Priority, StoredEvent
from comfy_mcp.domain.gpu import SLOWED, GpuDevice, GpuSample, GpuState
from comfy_mcp.domain.ids import CLOUDS, LOCAL, EngineId
from comfy_mcp.domain.job import TERMINAL
from comfy_mcp.domain.quotas import LIMITS, ClientUse
from comfy_mcp.domain.vram import WaitReason
from comfy_mcp.metrics.engines import EngineMeter
from comfy_mcp.metrics.instruments import Instruments
from comfy_mcp.metrics.jobs import OTHER, JobMeter
from comfy_mcp.metrics.later import Later
from comfy_mcp.metrics.negotiation import Format

RENDER_EVERY_S = 0.25
"""Rendering many series takes milliseconds, and /metrics may be open to everybody: a flood of scrapes must
not block the loop."""

SCRAPED_S = 120.0
"""Somebody who scrapes at all does so at least this often."""

STREAMS = ("websocket", "sse", "mcp_listen", "mcp_session")
"""Kinds of streams: those of the sidecar, and MCP's by protocol era."""

WEBHOOK_OUTCOMES = ("delivered", "failed", "dead")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineGauge:
    """One engine's state. `queue` is None if the engine did not report it."""

    engine: EngineId
    up: bool
    driven: bool
    queue: int | None


class Metrics:
    """Belongs to one event loop and one runtime."""

    def __init__(
        self,
        *,
        engines: Collection[EngineId],
        version: str,
        now_ms: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        # Series with the time at which a counter was made double the text and have no use here.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._later = Later()
        self.registry.register(self._later)
        self._engines: frozenset[str] = frozenset()
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._rendered: dict[Format, tuple[float, bytes]] = {}
        self._made = made = Instruments(self.registry)
        ProcessCollector(registry=self.registry)
        made.build.labels(version).set(1)
        self._watched = asyncio.Event()
        self._scraped = asyncio.Event()
        self._scraped_at = -math.inf
        self.jobs = JobMeter(made, engine_label=self._label, now_ms=now_ms)
        self._meters: dict[EngineId, EngineMeter] = {}
        self.know_engines(engines)
        self._reads = made.store_seconds.labels("read")
        self._writes = made.store_seconds.labels("write")
        self._streams: dict[str, list[Callable[[], int]]] = {kind: [] for kind in STREAMS}
        for kind, counts in self._streams.items():
            made.open_streams.labels(kind).set_function(partial(_sum, counts))
            made.cut_streams.labels(kind)
        for outcome in WEBHOOK_OUTCOMES:
            made.webhook_tries.labels(outcome)
        self._gpus: frozenset[str] = frozenset()
        self._requests: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        """As many as there are series: looking them up by their labels is half of counting."""

    def know_engines(self, engines: Collection[EngineId]) -> None:
        """These are the engines from now on. The others share one label."""
        made = self._made
        for gone in self._engines.difference(engines):
            for gauge in (made.engine_up, made.engine_driven, made.engine_queue, made.in_flight):
                gauge.remove(gone)
        for engine in engines:  # a rate needs a series that was 0 before
            made.attempts.labels(engine)
            made.requeues.labels(engine)
            made.gpu_seconds.labels(engine)
            made.oom_retries.labels(engine)
            for status in TERMINAL:
                made.run_seconds.labels(engine, status.value)
            if engine not in self._meters:
                self._meters[engine] = EngineMeter(made, engine)
        self._engines = frozenset(engines)

    def render(self, form: Format) -> tuple[bytes, str]:
        """The text and its content type, at most RENDER_EVERY_S old. Reads memory (and /proc/self), nothing
        that could hang."""
        now = self._scraped_at = self._monotonic()
        self._scraped.set()
        known = self._rendered.get(form)
        if known is None or now >= known[0]:
            known = self._rendered[form] = (now + RENDER_EVERY_S, self._text(form))
        return known[1], _CONTENT_TYPES[form]

    def _text(self, form: Format) -> bytes:
        match form:
            case Format.TEXT:
                return exposition.generate_latest(self.registry)
            case Format.OPENMETRICS:
                text: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
                return text
            case _:
                assert_never(form)

    # ------------------------------------------------------------------ who scrapes

    def watch(self) -> None:
        """From now on somebody may scrape, so the gauges are refreshed."""
        self._watched.set()

    async def wait_until_watched(self) -> None:
        await self._watched.wait()

    async def wait_until_read(self, limit_s: float) -> None:
        """Return at once while somebody scrapes, else at the next scrape or after the time."""
        if self._monotonic() - self._scraped_at < SCRAPED_S:
            return
        self._scraped.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._scraped.wait()

    # ------------------------------------------------------------------ what happens

    def hear(self, stored: StoredEvent) -> None:
        """An event of the log; `hub.listen` calls it."""
        self.jobs.hear(stored)

    def hear_engine(self, engine: EngineId, event: EngineEvent) -> None:
        """An event of an engine that this process drives."""
        self._meters[engine].hear(event)

    def store_read(self, seconds: float) -> None:
        self._later.add(self._reads.observe, seconds)

    def store_wrote(self, seconds: float) -> None:
        self._later.add(self._writes.observe, seconds)

    def loop_stood(self) -> None:
        """The event loop stood still for too long."""
        self._made.loop_stalls.inc()

    def webhook_tried(self, outcome: str) -> None:
        """Of WEBHOOK_OUTCOMES: delivered, failed (it is tried again), dead."""
        self._made.webhook_tries.labels(outcome).inc()

    def event_dropped(self) -> None:
        """A subscriber of the hub lost one."""
        self._made.hub_drops.inc()

    def stream_cut_off(self, kind: str) -> None:
        """A stream of a kind in STREAMS was disconnected, because its client read too slowly."""
        self._made.cut_streams.labels(kind).inc()

    def count_subscribers(self, count: Callable[[], int]) -> None:
        """`count` is asked at each scrape; it must not block."""
        self._made.hub_subscribers.set_function(count)

    def count_tasks(self, count: Callable[[], int]) -> None:
        """The same for the tasks of the event loop."""
        self._made.tasks.set_function(count)

    def count_streams(self, kind: str, count: Callable[[], int]) -> None:
        """The same for open streams of a kind out of STREAMS; what several surfaces count is added up."""
        self._streams[kind].append(count)

    @contextmanager
    def tool_call(self, name: str) -> Iterator[None]:
        """A call of an existing tool. Its status is success, error or cancelled."""
        started = time.perf_counter()
        status = "error"
        try:
            yield
            status = "success"
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        finally:
            self._made.tool_calls.labels(name, status).inc()
            self._made.tool_seconds.labels(name).observe(time.perf_counter() - started)

    def http_request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """`route` is a template out of the route table, never a path."""
        labels = (method if method in METHODS else OTHER, route, str(status))
        series = self._requests.get(labels)
        if series is None:
            made = self._made
            series = self._requests[labels] = (
                made.requests.labels(*labels),
                made.request_seconds.labels(*labels),
            )
        self._later.add(series[0].inc, 1)
        self._later.add(series[1].observe, seconds)

    def http_error(self, *, error_type: str, route: str) -> None:
        """`error_type` is a stable code."""
        self._made.api_errors.labels(error_type, route).inc()

    # ------------------------------------------------------------------ what is found out now and then

    def set_queue(
        self,
        *,
        queued: Mapping[str, int],
        waiting: Mapping[Priority, int],
        held: int,
        in_flight: Mapping[EngineId, int],
    ) -> None:
        """Set the gauges of jobs; `queued` by lane. Lanes, priorities and engines not named count 0."""
        self._made.queue_length.set(sum(queued.values()))
        for lane in (LOCAL, *CLOUDS):
            self._made.queued.labels(lane).set(queued.get(lane, 0))
        self._made.held.labels(WaitReason.VRAM.value).set(held)
        for priority in Priority:
            self._made.waiting.labels(priority.value).set(waiting.get(priority, 0))
        by_label = dict.fromkeys((*self._engines, OTHER), 0)
        for engine, count in in_flight.items():
            by_label[self._label(engine)] += count
        for label, count in by_label.items():
            self._made.in_flight.labels(label).set(count)
        self._refreshed("store")

    def set_limits(self, clients: Collection[ClientUse]) -> None:
        """Set how many of the clients, whose keys limit them, are at each limit."""
        for limit in LIMITS:
            self._made.at_limit.labels(limit).set(sum(limit in each.reached for each in clients))

    def set_store_bytes(self, sizes: Mapping[str, int]) -> None:
        """By file: `database`, `wal`."""
        for file, size in sizes.items():
            self._made.store_bytes.labels(file).set(size)

    def set_spending(self, today: float, budget: float) -> None:
        """Of workflows at services, in the currency of the settings. `budget` 0: there is none."""
        self._made.cloud_spent.set(today)
        self._made.cloud_budget.set(budget)

    def set_engines(self, reports: Iterable[EngineGauge]) -> None:
        for report in reports:
            engine = self._label(report.engine)
            self._made.engine_up.labels(engine).set(report.up)
            self._made.engine_driven.labels(engine).set(report.driven)
            if report.queue is None:
                self._made.engine_queue.remove(engine)
            else:
                self._made.engine_queue.labels(engine).set(report.queue)
        self._refreshed("engines")

    def set_gpus(self, sample: GpuSample) -> None:
        """An unknown value has no series: 0 would be wrong."""
        for device in sample.devices:
            self._set_gpu(str(device.index), device)
        present = frozenset(str(device.index) for device in sample.devices)
        for gone in self._gpus - present:
            self._set_gpu(gone, None)
        self._gpus = present
        self._made.gpus_gone.set(len(sample.gone))
        for engine in self._engines:
            held = [each.torch_total_bytes for each in sample.engines if each.engine == engine]
            known = [each for each in held if each is not None]
            _set(self._made.torch_vram, sum(known) if known else None, engine)
        self._refreshed("gpu")

    def _set_gpu(self, gpu_id: str, device: GpuDevice | None) -> None:
        made = self._made
        known = device if device is not None else _NO_GPU
        for gauge, value in (
            (made.gpu_ok, None if device is None else int(device.state is GpuState.OK)),
            (made.gpu_utilization, known.utilization_percent),
            (made.vram_used, known.memory_used_bytes),
            (made.vram_total, known.memory_total_bytes),
            (made.gpu_celsius, known.temperature_celsius),
            (made.gpu_celsius_limit, known.temperature_limit_celsius),
            (made.gpu_watts, known.power_watts),
            (made.gpu_watts_limit, known.power_limit_watts),
        ):
            _set(gauge, value, gpu_id)
        for reason in SLOWED:
            says = known.throttle_reasons is not None
            _set(made.gpu_slowed, int(reason in known.slowed_by) if says else None, gpu_id, reason.value)
        _set(made.gpu_ecc, known.ecc_corrected, gpu_id, "corrected")
        _set(made.gpu_ecc, known.ecc_uncorrected, gpu_id, "uncorrected")

    def _refreshed(self, source: str) -> None:
        self._made.refreshed.labels(source).set(self._now_ms() / 1000)

    def _label(self, engine: EngineId | None) -> str:
        """Engines that only the store knows share one label."""
        return engine if engine in self._engines else OTHER


def _sum(counts: Iterable[Callable[[], int]]) -> int:
    return sum(count() for count in counts)


def _set(gauge: Gauge, value: float | None, *labels: str) -> None:
    if value is None:
        gauge.remove(*labels)
    else:
        gauge.labels(*labels).set(value)


_NO_GPU = GpuDevice(index=0, name="")
"""Nothing is known of it."""

_CONTENT_TYPES = {
    Format.TEXT: exposition.CONTENT_TYPE_PLAIN_0_0_4,
    Format.OPENMETRICS: openmetrics.CONTENT_TYPE_LATEST,
}
