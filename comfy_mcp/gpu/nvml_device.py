"""One device, as NVML shows it. Source of the names, units and codes: nvml.h, by way of pynvml.

Most questions have no answer somewhere: MIG has no utilisation, GeForce cards no ECC, older drivers lack
functions. That is None. Only what says that the device or the session is lost ends the reading of a device.
"""

from dataclasses import dataclass
from typing import Any

from comfy_mcp.domain.gpu import GpuDevice, GpuProcess, GpuState, MigDevice, ThrottleReason, plain_name
from comfy_mcp.gpu.number_parsing import count, whole_and_part

MAX_PROCESSES = 20
"""Shown per device, the greatest first; all are counted."""

MAX_MIG_DEVICES = 16
"""Asked for per device; hardware has 7."""

_FATAL = ("GPU_IS_LOST", "RESET_REQUIRED", "UNINITIALIZED", "DRIVER_NOT_LOADED")
_REASONS = {
    0x1: ThrottleReason.GPU_IDLE,
    0x2: ThrottleReason.APPLICATIONS_CLOCKS,
    0x4: ThrottleReason.SW_POWER_CAP,
    0x8: ThrottleReason.HW_SLOWDOWN,
    0x10: ThrottleReason.SYNC_BOOST,
    0x20: ThrottleReason.SW_THERMAL,
    0x40: ThrottleReason.HW_THERMAL,
    0x80: ThrottleReason.HW_POWER_BRAKE,
    0x100: ThrottleReason.DISPLAY_CLOCKS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The device at an index when it last answered: a lost device can't be identified any more."""

    name: str
    uuid: str | None


def read_device(nvml: Any, index: int, known: Known | None) -> GpuDevice:
    """Never raises on account of the driver: then the device has a state and a fault."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        return _Device(nvml, handle).read(index)
    except nvml.NVMLError as error:
        states = {
            nvml.NVML_ERROR_GPU_IS_LOST: GpuState.LOST,
            nvml.NVML_ERROR_RESET_REQUIRED: GpuState.RESET_REQUIRED,
        }
        return GpuDevice(
            index=index,
            name=known.name if known is not None else f"GPU {index}",
            uuid=known.uuid if known is not None else None,
            state=states.get(error.value, GpuState.FAILED),
            fault=say(error),
        )


def say(error: Exception) -> str:
    """The driver's error text, or the error's name if the library has no text for it."""
    try:
        return plain_name(str(error)) or type(error).__name__
    except (UnicodeDecodeError, TypeError, AttributeError):
        return type(error).__name__


class _Device:
    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._fatal = {getattr(nvml, f"NVML_ERROR_{name}") for name in _FATAL}

    def read(self, index: int) -> GpuDevice:
        """Raises NVMLError where the device or the session is lost."""
        total, used = self._memory(self._handle)
        rates = self._ask("UtilizationRates")
        power, power_limit = self._ask("PowerUsage"), self._ask("EnforcedPowerLimit")
        processes = self._processes()
        return GpuDevice(
            index=index,
            name=self._name(self._handle, f"GPU {index}"),
            uuid=self._uuid(self._handle),
            utilization_percent=_percent(None if rates is None else rates.gpu),
            memory_used_bytes=used,
            memory_total_bytes=total,
            temperature_celsius=_float(self._ask("Temperature", 0)),  # NVML_TEMPERATURE_GPU
            temperature_limit_celsius=_float(self._ask("TemperatureThreshold", 1)),  # …_THRESHOLD_SLOWDOWN
            power_watts=None if power is None else power / 1000,  # NVML counts milliwatts
            power_limit_watts=None if power_limit is None else power_limit / 1000,
            graphics_clock_mhz=self._ask("ClockInfo", 0),  # NVML_CLOCK_GRAPHICS
            memory_clock_mhz=self._ask("ClockInfo", 2),  # NVML_CLOCK_MEM
            throttle_reasons=self._throttle_reasons(),
            # corrected 0, uncorrected 1; volatile 0: since the driver was loaded
            ecc_corrected=self._ask("TotalEccErrors", 0, 0),
            ecc_uncorrected=self._ask("TotalEccErrors", 1, 0),
            processes=None if processes is None else tuple(processes[:MAX_PROCESSES]),
            process_count=None if processes is None else len(processes),
            mig_devices=tuple(self._mig_devices()),
        )

    def _ask(self, what: str, *arguments: Any, of: Any = None) -> Any:
        """The answer, or None where this device, driver or library has none."""
        try:
            question = getattr(self._nvml, f"nvmlDeviceGet{what}")
            return question(self._handle if of is None else of, *arguments)
        except self._nvml.NVMLError as error:
            if error.value in self._fatal:
                raise
            return None
        except (UnicodeDecodeError, AttributeError):
            return None

    def _memory(self, handle: Any) -> tuple[int | None, int | None]:
        """All there is, and what is in use."""
        memory = self._ask("MemoryInfo", of=handle)
        return (None, None) if memory is None else whole_and_part(int(memory.total), int(memory.used))

    def _name(self, handle: Any, otherwise: str) -> str:
        return plain_name(self._ask("Name", of=handle) or "") or otherwise

    def _uuid(self, handle: Any) -> str | None:
        return plain_name(self._ask("UUID", of=handle) or "") or None

    def _throttle_reasons(self) -> tuple[ThrottleReason, ...] | None:
        bits = self._ask("CurrentClocksEventReasons")
        if bits is None:  # before driver 535 it had another name
            bits = self._ask("CurrentClocksThrottleReasons")
        if bits is None:
            return None
        named = [reason for bit, reason in _REASONS.items() if bits & bit]
        unknown = bits & ~sum(_REASONS)
        return (*named, ThrottleReason.OTHER) if unknown else tuple(named)

    def _processes(self) -> list[GpuProcess] | None:
        """Of both kinds, each process once, the greatest first."""
        found: dict[int, int | None] = {}
        kinds = [self._processes_of(kind) for kind in ("Compute", "Graphics")]
        for process in [each for kind in kinds if kind is not None for each in kind]:
            found[process.pid] = max(
                (each for each in (found.get(process.pid), process.usedGpuMemory) if each is not None),
                default=None,
            )
        if all(kind is None for kind in kinds):
            return None
        ranked = sorted(found.items(), key=lambda each: (-(each[1] or 0), each[0]))
        return [GpuProcess(pid=pid, memory_bytes=count(memory)) for pid, memory in ranked]

    def _processes_of(self, kind: str) -> Any:
        listed = self._ask(f"{kind}RunningProcesses_v3")
        return listed if listed is not None else self._ask(f"{kind}RunningProcesses_v2")

    def _mig_devices(self) -> list[MigDevice]:
        mode = self._ask("MigMode")
        if mode is None or mode[0] != 1:
            return []
        most = min(self._ask("MaxMigDeviceCount") or 0, MAX_MIG_DEVICES)
        found = []
        for index in range(most):
            handle = self._ask("MigDeviceHandleByIndex", index)
            if handle is None:
                continue  # a place where no slice has been made
            total, used = self._memory(handle)
            found.append(
                MigDevice(
                    index=index,
                    name=self._name(handle, f"MIG {index}"),
                    uuid=self._uuid(handle),
                    memory_used_bytes=used,
                    memory_total_bytes=total,
                )
            )
        return found


def _percent(value: int | None) -> float | None:
    return float(value) if value is not None and 0 <= value <= 100 else None


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)
