"""What the local NVIDIA driver says. Everything here blocks: NVML calls belong on a thread.

The module `pynvml` comes from nvidia-ml-py; it is imported on first use, because it takes 20 ms.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from comfy_mcp.domain.gpu import GpuDevice

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlReading:
    """The devices, and in `reason` why there are none or which of them do not answer."""

    devices: tuple[GpuDevice, ...]
    reason: str | None = None


class Nvml:
    """One NVML session, opened by the first reading and reopened after a fault. Not thread-safe."""

    def __init__(self) -> None:
        self._nvml: Any = None

    def read(self) -> NvmlReading:
        """All devices now. Never raises on account of the driver: a fault is a reason."""
        try:
            import pynvml
        except ImportError:
            return NvmlReading(devices=(), reason="nvidia-ml-py is not installed")
        try:
            if self._nvml is None:
                pynvml.nvmlInit()
                self._nvml = pynvml
            count = pynvml.nvmlDeviceGetCount()
        except (pynvml.NVMLError, OSError, AttributeError) as error:
            self.close()
            return NvmlReading(devices=(), reason=f"NVML: {_say(error)}")
        readings = [_read_device(pynvml, index) for index in range(count)]
        faults = [fault for _, fault in readings if fault is not None]
        if faults:
            self.close()  # a lost GPU stays lost in this session, even when it comes back
        reason = "; ".join(faults) if count else "NVML: the driver sees no GPU"
        return NvmlReading(devices=tuple(device for device, _ in readings), reason=reason or None)

    def close(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            _ask(nvml, nvml.nvmlShutdown)


def _read_device(nvml: Any, index: int) -> tuple[GpuDevice, str | None]:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = _ask(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle), lost_raises=True)
    except nvml.NVMLError as error:
        fault = _say(error)
        return GpuDevice(index=index, name=f"GPU {index} ({fault})"), f"NVML: GPU {index}: {fault}"
    utilization = _ask(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    temperature = _ask(nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    power = _ask(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    power_limit = _ask(nvml, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    device = GpuDevice(
        index=index,
        name=_ask(nvml, lambda: nvml.nvmlDeviceGetName(handle)) or f"GPU {index}",
        uuid=_ask(nvml, lambda: nvml.nvmlDeviceGetUUID(handle)),
        utilization_percent=None if utilization is None else float(utilization),
        memory_used_bytes=None if memory is None else int(memory.used),
        memory_total_bytes=None if memory is None else int(memory.total),
        temperature_celsius=None if temperature is None else float(temperature),
        power_watts=None if power is None else power / 1000,  # NVML counts milliwatts
        power_limit_watts=None if power_limit is None else power_limit / 1000,
    )
    return device, None


def _ask(nvml: Any, question: Callable[[], T], *, lost_raises: bool = False) -> T | None:
    """The answer, or None where this device, driver or library has none (MIG, old cards, no permission)."""
    try:
        return question()
    except nvml.NVMLError as error:
        if lost_raises and error.value in {nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED}:
            raise
        return None
    except UnicodeDecodeError:
        return None


def _say(error: Exception) -> str:
    return str(error) or type(error).__name__
