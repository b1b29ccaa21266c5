"""What a tenure asks of the engine by itself: to stop what was cancelled, until it has, and what became of
prompts that it has been silent about."""

from comfy_mcp.domain.deadlines import STOP_LIMIT_S
from comfy_mcp.domain.ids import JobId
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.clock import Clock
from comfy_mcp.driving.containment import Containment
from comfy_mcp.driving.errands import Errands
from comfy_mcp.driving.hearing import Hearing
from comfy_mcp.driving.ledger import Ledger

CANCEL_RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Pauses before an engine is asked again to cancel; the last one repeats."""


class Stopping:
    """One tenure's. `cancels` are jobs to cancel that are no attempts yet, or not known to be."""

    def __init__(
        self, ledger: Ledger, hearing: Hearing, errands: Errands, clock: Clock, containment: Containment
    ) -> None:
        self.cancels: set[JobId] = set()
        self._ledger = ledger
        self._hearing = hearing
        self._errands = errands
        self._clock = clock
        self._containment = containment

    @property
    def has_news(self) -> bool:
        """`turn` has cancels to begin."""
        return bool(self._ledger.found_cancels or self.cancels)

    def turn(self, reserved: JobId | None) -> None:
        """Do what is due. `reserved`: a job that is claimed, and becomes an attempt later."""
        self.cancels |= self._ledger.found_cancels
        self._ledger.found_cancels.clear()
        now = self._clock.monotonic()
        for attempt in self._ledger.attempts.values():
            if attempt.job.id in self.cancels and not attempt.settled:
                attempt.ask_cancel(now)
        self.cancels &= {reserved}
        for attempt in self._ledger.attempts.values():
            self._chase(attempt, now)

    def due(self, attempt: Attempt) -> list[float]:
        """When `turn` has something to do for an attempt that was sent, or somebody has for its deadline."""
        due: list[float | None] = []
        if attempt.stop_asked_at is not None and not attempt.settled:
            due.append(attempt.stop_asked_at + STOP_LIMIT_S)
        if not (attempt.unsent or attempt.looking or attempt.submitting or attempt.settled):
            quiet = attempt.heard_at + self._hearing.quiet_s
            due += (quiet, attempt.cancel_due, attempt.deadline, attempt.look_due)
        return [each for each in due if each is not None]

    def _chase(self, attempt: Attempt, now: float) -> None:
        if attempt.stop_asked_at is not None and now - attempt.stop_asked_at >= STOP_LIMIT_S:
            self._end_here(attempt)
        if attempt.looking or attempt.submitting or attempt.settled or attempt.unsent:
            return
        if attempt.cancel_due is not None and attempt.cancel_due <= now:
            pause = CANCEL_RETRY_S[min(attempt.cancel_tries, len(CANCEL_RETRY_S) - 1)]
            attempt.cancel_tries += 1
            attempt.cancel_due = now + pause
            attempt.stop_asked_at = now if attempt.stop_asked_at is None else attempt.stop_asked_at
            attempt.begin_look()
            self._errands.cancel(attempt.prompt_id)
        elif attempt.look_due is not None and attempt.look_due <= now:
            self._hearing.look([attempt])
        elif now - attempt.heard_at >= self._hearing.quiet_s:
            attempt.quiet = True
            self._hearing.look([attempt])

    def _end_here(self, attempt: Attempt) -> None:
        """The engine did not stop it in time, or does not say so."""
        if not attempt.settled:
            with self._containment.step(attempt, "end here"):
                self._hearing.end_here(attempt)
            self._errands.put_out(attempt.prompt_id)
