"""GPU samples as values. "No GPU" and a broken GPU are values, not errors.

None always means "the source does not know": normal for MIG, AMD, Apple, old drivers and containers.
"""

from dataclasses import dataclass
from enum import StrEnum

MAX_NAME = 100


class GpuSource(StrEnum):
    """The source of a value: the local driver, or an engine's /system_stats."""

    NVML = "nvml"
    ENGINE = "engine"
    NONE = "none"


class GpuState(StrEnum):
    OK = "ok"
    LOST = "lost"  # fell off the bus: NVML_ERROR_GPU_IS_LOST
    RESET_REQUIRED = "reset_required"
    FAILED = "failed"  # the driver says something else instead of an answer


class ThrottleReason(StrEnum):
    """Why the clocks are not at their highest, as nvidia-smi names it (nvml.h, nvmlClocksEventReasons)."""

    GPU_IDLE = "gpu_idle"
    APPLICATIONS_CLOCKS = "applications_clocks"
    SW_POWER_CAP = "sw_power_cap"
    HW_SLOWDOWN = "hw_slowdown"
    SYNC_BOOST = "sync_boost"
    SW_THERMAL = "sw_thermal"
    HW_THERMAL = "hw_thermal"
    HW_POWER_BRAKE = "hw_power_brake"
    DISPLAY_CLOCKS = "display_clocks"
    OTHER = "other"


SLOWED = (
    ThrottleReason.SW_POWER_CAP,
    ThrottleReason.HW_SLOWDOWN,
    ThrottleReason.SW_THERMAL,
    ThrottleReason.HW_THERMAL,
    ThrottleReason.HW_POWER_BRAKE,
    ThrottleReason.OTHER,
)
"""The reasons that slow work down. The others are settings, or an idle GPU."""

HOT = frozenset({ThrottleReason.SW_THERMAL, ThrottleReason.HW_THERMAL})


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """`pid` is the host's, also inside a container."""

    pid: int
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigDevice:
    """One slice of a GPU. The driver measures neither its utilisation nor its temperature."""

    index: int
    name: str
    uuid: str | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDevice:
    """One device at one moment. Clocks are MHz; ECC errors count from the driver's last load.

    `processes` are the greatest only; `process_count` counts all. `engine` is set where an engine's word is
    the only source. `temperature_limit_celsius` is where the device begins to slow itself down.
    """

    index: int
    name: str
    uuid: str | None = None
    state: GpuState = GpuState.OK
    fault: str | None = None
    utilization_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: float | None = None
    temperature_limit_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    graphics_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    throttle_reasons: tuple[ThrottleReason, ...] | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    processes: tuple[GpuProcess, ...] | None = None
    process_count: int | None = None
    mig_devices: tuple[MigDevice, ...] = ()
    engine: str | None = None

    @property
    def slowed_by(self) -> tuple[ThrottleReason, ...]:
        """The reasons that slow its work down now; empty if unknown."""
        return tuple(reason for reason in self.throttle_reasons or () if reason in SLOWED)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineVram:
    """One device of an engine, by its /system_stats. `torch_…` is what its torch has reserved,
    and how much of that is free again. `gpu` is the index in the sample's devices, where that is certain."""

    engine: str
    name: str
    type: str
    index: int | None = None
    vram_total_bytes: int | None = None
    vram_free_bytes: int | None = None
    torch_total_bytes: int | None = None
    torch_free_bytes: int | None = None
    gpu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GoneGpu:
    """A device that the driver had shown to this process and now does not show."""

    name: str
    uuid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    """All devices found. `reason` says why there are none, or what is wrong with some.

    `without_gpu` are engines that answered and spoke of none.
    """

    source: GpuSource
    devices: tuple[GpuDevice, ...]
    at_ms: int
    reason: str | None = None
    engines: tuple[EngineVram, ...] = ()
    gone: tuple[GoneGpu, ...] = ()
    without_gpu: tuple[str, ...] = ()

    @property
    def available(self) -> bool:
        return bool(self.devices)

    def device_of(self, engine: str) -> GpuDevice | None:
        """The local device that an engine works on, where that is certain."""
        indexes = {each.gpu for each in self.engines if each.engine == engine} - {None}
        found = [each for each in self.devices if each.index in indexes and each.engine is None]
        return found[0] if len(found) == 1 else None


def plain_name(text: str) -> str:
    """`text` as every terminal, log and label takes it: one line, no control or bidi characters, bounded."""
    shown = "".join(each if each.isprintable() else "?" for each in text.strip())
    return shown if len(shown) <= MAX_NAME else f"{shown[: MAX_NAME - 1]}…"


def gpu_problems(sample: GpuSample) -> tuple[str, ...]:
    """What needs attention, in sentences."""
    found = [sentence for device in sample.devices for sentence in _problems_of(device)]
    found += [
        f"GPU {each.name} ({each.uuid}) has disappeared: check the driver's log, then reset it or restart."
        for each in sample.gone
    ]
    return tuple(found)


def _problems_of(device: GpuDevice) -> list[str]:
    named = f"GPU {device.index} ({device.name})"
    if device.state is not GpuState.OK:
        return [f"{named} does not work: {device.fault}. Reset it or restart the machine."]
    found = []
    if HOT.intersection(device.slowed_by):
        at = "" if device.temperature_celsius is None else f" at {device.temperature_celsius:.0f} °C"
        found.append(f"{named} is too hot and slows down{at}: check its cooling.")
    if device.ecc_uncorrected:
        found.append(
            f"{named} has {device.ecc_uncorrected} uncorrected memory error(s): results may be wrong."
        )
    return found
