"""What the client of a key may have, and why its jobs wait. Times are epoch milliseconds, days are UTC's.

A job of a client that is at a limit of what runs stays where it is in the queue, and is passed over until the
client is below it again. Only the limits of what waits refuse a submit.
"""

from dataclasses import dataclass

from comfy_mcp.domain.events import JobEvent
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.domain.job import Job

LIMITS = ("queued", "running", "gpu_seconds")
"""What a key may limit of its client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientUse:
    """What the client has, and what its key allows it (None = no limit of its own). `running`: what engines
    have. `gpu_seconds`: of the attempts that ended today; the day ends at `day_ends`."""

    client: ClientId
    queued: int
    running: int
    gpu_seconds: float
    day_ends: int
    max_queued: int | None = None
    max_running: int | None = None
    max_gpu_seconds: float | None = None

    @property
    def reached(self) -> frozenset[str]:
        """The limits that the client is at, by the words of LIMITS."""
        has = {"queued": self.queued, "running": self.running, "gpu_seconds": self.gpu_seconds}
        may = {"queued": self.max_queued, "running": self.max_running, "gpu_seconds": self.max_gpu_seconds}
        return frozenset(name for name, most in may.items() if most is not None and has[name] >= most)

    @property
    def waits_because(self) -> str | None:
        """Why none of its jobs is sent to an engine. None: they wait for their turn only."""
        if "gpu_seconds" in self.reached:
            return (
                f"Its key has used {self.gpu_seconds:.0f} of {self.max_gpu_seconds:g} GPU-seconds today. "
                "It goes on at midnight UTC."
            )
        if "running" in self.reached:
            return (
                f"Engines have {self.running} of its client's workflows, the limit of its key. "
                "It goes on when one of them ends."
            )
        return None

    def goes_on_in_ms(self, now: int) -> int | None:
        """None where nobody knows."""
        return max(0, self.day_ends - now) if "gpu_seconds" in self.reached else None


def gpu_seconds_of(attempt: Job, end: JobEvent) -> float:
    """What the attempt that `end` ended counts: what was measured of the GPU, else the time that it ran.

    Only GPUs of the bridge's own machine are measured, and a quota must not depend on where a job ran.
    """
    use: GpuUse | None = getattr(end, "gpu_use", None)
    if use is not None and use.seconds is not None:
        return use.seconds
    return 0.0 if attempt.started_at is None else max(0, end.at - attempt.started_at) / 1000
