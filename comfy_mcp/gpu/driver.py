"""Run the driver in its own thread, because its calls may hang."""

import asyncio
from contextlib import suppress
from typing import Protocol

import structlog

from comfy_mcp.daemon_threads import on_daemon_thread
from comfy_mcp.gpu.nvml import NvmlReading

log = structlog.get_logger(__name__)


class Driver(Protocol):
    """The local driver; its methods block."""

    def read(self) -> NvmlReading: ...

    def close(self) -> None: ...


class DriverThread:
    """Asks the driver one thing at a time. Belongs to one event loop."""

    def __init__(self, driver: Driver, *, timeout_s: float) -> None:
        self._driver = driver
        self._timeout_s = timeout_s
        self._reading: asyncio.Future[NvmlReading] | None = None

    async def read(self) -> NvmlReading:
        """Raises nothing. A driver that hangs keeps its thread: no second one is started on it."""
        if self._reading is None:
            self._reading = on_daemon_thread(self._driver.read, name="gpu-driver")
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

    async def aclose(self) -> None:
        """Close the driver's session, unless it hangs."""
        if self._reading is None or self._reading.done():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout_s):
                    await on_daemon_thread(self._driver.close, name="gpu-driver")
