"""How much of a GPU one run of a job took, from samples. Times are seconds of a steady clock."""

from dataclasses import dataclass

from comfy_mcp.domain.gpu import GpuDevice

SETTLED_S = 0.25
"""A driver's utilisation is an average over up to a second past: one that is read right after the start
still shows what was before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """`seconds`: the device's utilisation summed over the run (50 % for 10 s is 5). `peak_bytes`: the most
    memory in use on the device, whoever used it, at any sample. `held_bytes`: the most that the engine's own
    torch had reserved. None: not measured."""

    seconds: float | None = None
    peak_bytes: int | None = None
    held_bytes: int | None = None


class GpuAccount:
    """One run. A run that ended before a sample covered it was not measured."""

    def __init__(self, *, started_at: float) -> None:
        self._started_at = started_at
        self._until = started_at
        self._seconds: float | None = None
        self._rate: float | None = None
        self._peak: int | None = None
        self._held: int | None = None

    def take(self, device: GpuDevice, *, at: float) -> None:
        """A sample of the run's device. Its utilisation counts for the time since the sample before."""
        if at - self._started_at < SETTLED_S:
            return
        if device.memory_used_bytes is not None:
            self._peak = max(self._peak or 0, device.memory_used_bytes)
        if device.utilization_percent is not None:
            self._rate = min(max(device.utilization_percent, 0.0), 100.0) / 100
            self._seconds = (self._seconds or 0.0) + self._rate * max(0.0, at - self._until)
            self._until = max(self._until, at)

    def hold(self, held_bytes: int, *, at: float) -> None:
        """Note how much memory the engine's torch has reserved now."""
        if at - self._started_at >= SETTLED_S:
            self._held = max(self._held or 0, held_bytes)

    def close(self, *, at: float) -> GpuUse:
        """The time since the last sample counts at its rate. May be called again, later."""
        if self._seconds is None or self._rate is None:
            return GpuUse(peak_bytes=self._peak, held_bytes=self._held)
        tail = self._rate * max(0.0, at - self._until)
        seconds = round(self._seconds + tail, 3)
        return GpuUse(seconds=seconds, peak_bytes=self._peak, held_bytes=self._held)
