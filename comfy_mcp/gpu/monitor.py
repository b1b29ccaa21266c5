"""The monitor: the local driver first, the engines' word where there is none, "no GPU" as an answer."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeVar, cast

import structlog

from comfy_mcp.domain.errors import EngineFault
from comfy_mcp.domain.gpu import GpuDevice, GpuSample, GpuSource
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.gpu.engines import gpus_of_engine
from comfy_mcp.gpu.nvml import Nvml, NvmlReading
from comfy_mcp.settings import Settings

T = TypeVar("T")

log = structlog.get_logger(__name__)


class SystemStats(Protocol):
    """An engine that can be asked for `GET /system_stats`."""

    async def system_stats(self) -> Mapping[str, Any]:
        """Raises EngineFault."""
        ...


class Driver(Protocol):
    """The local driver; its methods block."""

    def read(self) -> NvmlReading: ...

    def close(self) -> None: ...


class GpuMonitor:
    """One reading serves everybody for `gpu_sample_s`; who comes while one is under way waits for it."""

    def __init__(
        self,
        settings: Settings,
        *,
        engines: Mapping[EngineId, SystemStats],
        now_ms: Callable[[], int],
        driver: Driver | None = None,
    ) -> None:
        self._max_age_ms = settings.gpu_sample_s * 1000
        self._timeout_s = settings.request_timeout_s
        self._engines = engines
        self._now_ms = now_ms
        self._driver: Driver = driver or Nvml()
        self._reading: asyncio.Future[NvmlReading] | None = None
        self._lock = asyncio.Lock()
        self._sample: GpuSample | None = None

    async def sample(self) -> GpuSample:
        """What the GPUs do, at most `gpu_sample_s` old. Raises nothing: a fault is the sample's reason."""
        async with self._lock:
            known = self._sample
            if known is None or not 0 <= self._now_ms() - known.at_ms < self._max_age_ms:
                known = self._sample = await self._take()
            return known

    async def aclose(self) -> None:
        """Close the driver's session, unless it hangs."""
        if self._reading is None or self._reading.done():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout_s):
                    await _on_daemon_thread(self._driver.close)

    async def _take(self) -> GpuSample:
        local = await self._ask_driver()
        if local.devices:
            return GpuSample(
                source=GpuSource.NVML, devices=local.devices, at_ms=self._now_ms(), reason=local.reason
            )
        devices, reasons = await self._ask_engines()
        if devices:
            return GpuSample(source=GpuSource.ENGINE, devices=devices, at_ms=self._now_ms())
        reason = "; ".join([local.reason or "NVML: no devices", *reasons])
        return GpuSample(source=GpuSource.NONE, devices=(), at_ms=self._now_ms(), reason=reason)

    async def _ask_driver(self) -> NvmlReading:
        # A driver that hangs keeps its thread: no second one is started on it.
        if self._reading is None:
            self._reading = _on_daemon_thread(self._driver.read)
        try:
            async with asyncio.timeout(self._timeout_s):
                reading = await asyncio.shield(self._reading)
        except TimeoutError:
            return NvmlReading(devices=(), reason="NVML: the driver does not answer")
        except Exception as error:  # noqa: BLE001 - whatever a driver does, it must not take the bridge down
            self._reading = None
            log.warning("gpu_driver_failed", error=type(error).__name__)
            return NvmlReading(devices=(), reason=f"NVML: {type(error).__name__}")
        self._reading = None
        return reading

    async def _ask_engines(self) -> tuple[tuple[GpuDevice, ...], list[str]]:
        answers: dict[EngineId, Mapping[str, Any] | None] = {}

        async def ask(engine: EngineId, source: SystemStats) -> None:
            try:
                async with asyncio.timeout(self._timeout_s):
                    answers[engine] = await source.system_stats()
            except (EngineFault, TimeoutError):
                answers[engine] = None

        async with asyncio.TaskGroup() as group:
            for engine, source in self._engines.items():
                group.create_task(ask(engine, source))
        devices: tuple[GpuDevice, ...] = ()
        reasons: list[str] = []
        for engine in self._engines:
            stats = answers[engine]
            found = gpus_of_engine(stats, engine, len(devices)) if stats is not None else ()
            devices += found
            if stats is None:
                reasons.append(f"engine {engine} does not answer")
            elif not found:
                reasons.append(f"engine {engine} runs without a GPU")
        return devices, reasons


def _on_daemon_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """`call()` on a thread that does not keep the process alive: a hung driver can't be interrupted."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("T", result))

    def work() -> None:
        result: T | None = None
        fault: Exception | None = None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits the future
            fault = error
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result, fault)

    threading.Thread(target=work, name="gpu-driver", daemon=True).start()
    return future
