"""Pure: how long to wait before the next attempt to reach an engine. The time is given."""

from dataclasses import dataclass, replace

FIRST_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses double from `first_s` to `max_s`. A connection that held for `max_s` counts as a success.

    All times are seconds of one monotonic clock.
    """

    max_s: float
    first_s: float = FIRST_PAUSE_S
    failures: int = 0
    connected_at: float | None = None

    def connected(self, now: float) -> "Backoff":
        return replace(self, connected_at=now)

    def lost(self, now: float) -> "Backoff":
        """After a failed attempt, or the loss of a connection. A short-lived connection is a failure too."""
        held = self.connected_at is not None and now - self.connected_at >= self.max_s
        return replace(self, failures=1 if held else self.failures + 1, connected_at=None)

    @property
    def pause_s(self) -> float:
        """Before the next attempt."""
        if self.failures == 0:
            return 0.0
        # The exponent is bounded, so that days of an engine that is down do not overflow a float.
        return float(min(self.max_s, self.first_s * 2 ** min(self.failures - 1, 32)))
