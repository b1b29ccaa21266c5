"""How a tenure's one task sleeps: until somebody rings, or until the earliest time that was asked for."""

import asyncio

from comfy_mcp.driving.clock import Clock


class Alarm:
    """For one sleeper. Many rings while it is busy are one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = False
        self._sleeper: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.due = float("inf")
        """The monotonic time that was asked for."""

    def ring(self) -> None:
        """Wake the sleeper now, or let its next sleep end at once."""
        self._rung = True
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    def by(self, due: float) -> None:
        """Ring at the monotonic time `due`, or earlier if an earlier one was asked for."""
        if due < self.due:
            self.stop()
            self.due = due
            delay = max(0.0, due - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._time_has_come)

    async def sleep(self) -> None:
        if not self._rung:
            self._sleeper = asyncio.get_running_loop().create_future()
            try:
                await self._sleeper
            finally:
                self._sleeper = None
        self._rung = False

    def stop(self) -> None:
        """Forget the time that was asked for."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.due = None, float("inf")

    def _time_has_come(self) -> None:
        self._timer, self.due = None, float("inf")
        self.ring()
