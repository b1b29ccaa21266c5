"""Attempts whose input files are on their way to the engine, which certainly does not have their prompt.

That may last, so each has a task of its own: the engine gets other jobs meanwhile, and a cancel or a deadline
ends the job at once, here. A process that dies leaves nothing behind: the next one looks the attempt up, and
the files are named by what they hold. At most `claiming.MAX_UNSENT` wait; then the engine leaves jobs that
name files in the queue, and takes others.
"""

from collections.abc import Callable, Mapping
from typing import assert_never

import structlog

from comfy_mcp.domain.errors import EngineFault, StoreFault
from comfy_mcp.domain.events import FailureKind, JobFailure
from comfy_mcp.domain.file_inputs import placed
from comfy_mcp.domain.ids import PromptId
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.clock import Clock
from comfy_mcp.driving.containment import MAX_CONCLUDE_TRIES, RETRY_S, Containment
from comfy_mcp.driving.errands import Broke, Brought, Errands, Unusable
from comfy_mcp.driving.ledger import Ledger
from comfy_mcp.driving.recovery import end_of_stopped, explain_unbrought

PATIENCE_S = 0.5
"""The next job waits this long for the files of the one before it, so that jobs mostly keep their order."""

log = structlog.get_logger(__name__)


class Bringing:
    """One tenure's. `errands` runs the tasks; nothing here waits. `connection` counts the streams that were
    opened: after each the engine may be another one, without the files."""

    def __init__(self, ledger: Ledger, errands: Errands, clock: Clock, containment: Containment) -> None:
        self._ledger = ledger
        self._errands = errands
        self._clock = clock
        self._containment = containment
        self._stops: dict[PromptId, Callable[[], object]] = {}

    def takes(self, attempt: Attempt, connection: int) -> bool:
        """Whether it can't be sent now: it names files, which are brought, or another one is being sent.
        `next_ready` gives it when it can."""
        needs = attempt.needs  # they are known of all jobs but very old ones: the graph may be large
        brings = bool(placed(attempt.graph.raw)) if needs is None else needs.brings
        if not (brings or self._ledger.posting):
            return False
        attempt.unsent_since = self._clock.monotonic()
        if brings:
            self._start(attempt, connection)
        else:
            attempt.ready, attempt.connection = attempt.graph.raw, connection
        return True

    def turn(self, connection: int, *, there: bool) -> None:
        """Start what is due, and stop what nobody waits for any more. `there`: the engine answers."""
        now = self._clock.monotonic()
        for attempt in self._unsent():
            if attempt.cancel_due is not None:  # asked for, or its deadline has passed
                with self._containment.step(attempt, "end here"):
                    self._end(attempt)
                continue
            if attempt.ready is not None and attempt.connection != connection:
                attempt.ready = None
            if attempt.ready is None and attempt.bring_due is None and attempt.prompt_id not in self._stops:
                attempt.bring_due = attempt.look_due or now  # a step failed, or the engine may lack them now
            if there and attempt.bring_due is not None and attempt.bring_due <= now:
                self._start(attempt, connection)
            if not self._is_new(attempt):
                self._ledger.counts_not(attempt)
        for prompt_id in [each for each in self._stops if not self._waits(each)]:
            self._stops.pop(prompt_id)()
            self._ledger.may_have_work = True

    def next_ready(self, connection: int) -> Attempt | None:
        """The first one whose files are there: the next to be sent."""
        ready = (each for each in self._unsent() if each.ready is not None)
        return next((each for each in ready if each.connection == connection), None)

    @property
    def holds_up(self) -> bool:
        """The next job waits for the files of one that has just come."""
        return any(self._is_new(attempt) for attempt in self._unsent())

    def due(self, attempt: Attempt, *, there: bool) -> list[float]:
        """When `turn` has something to do for it."""
        if attempt.settled:
            return []
        assert attempt.unsent_since is not None
        patience = attempt.unsent_since + PATIENCE_S if self._is_new(attempt) else None
        also = (attempt.cancel_due, attempt.deadline, attempt.bring_due if there else None, patience)
        return [each for each in also if each is not None]

    def brought(self, message: Brought) -> None:
        """A task has ended."""
        self._stops.pop(message.prompt_id, None)
        self._ledger.may_have_work = True  # jobs that name files may have been left
        attempt = self._ledger.attempts.get(message.prompt_id)
        if attempt is not None and not attempt.settled:
            with self._containment.step(attempt, "prepare"):
                self._brought(attempt, message)

    def _brought(self, attempt: Attempt, message: Brought) -> None:
        match message.answer:
            case Unusable(message=said, elsewhere=elsewhere):
                failure = JobFailure(kind=FailureKind.MISSING_INPUT, message=said)
                ledger = self._ledger
                end = (
                    ledger.ends.of_refusal(attempt, failure)
                    if elsewhere
                    else ledger.ends.failed(attempt.job, failure)
                )
                ledger.settle(attempt, end)
            case EngineFault() | StoreFault() as fault:
                self._try_again(attempt, fault)
            case Broke(error=error):
                self._containment.failed(attempt, "prepare", error)
            case Mapping() as ready:
                attempt.ready = ready
            case _:
                assert_never(message.answer)

    def _try_again(self, attempt: Attempt, fault: EngineFault | StoreFault) -> None:
        attempt.bring_tries += 1
        log.warning("files_not_brought", job_id=attempt.job.id, tries=attempt.bring_tries, error=str(fault))
        if attempt.bring_tries < MAX_CONCLUDE_TRIES:
            attempt.bring_due = self._clock.monotonic() + RETRY_S
            return
        reason = f"The input files could not be put on the engine. {fault.sentence}"
        limit, now = self._ledger.ends.max_attempts(attempt.job), self._clock.now_ms()
        self._ledger.settle(attempt, explain_unbrought(attempt.job, reason, max_attempts=limit, now=now))

    def _start(self, attempt: Attempt, connection: int) -> None:
        attempt.bring_due, attempt.look_due, attempt.connection = None, None, connection
        self._stops[attempt.prompt_id] = self._errands.bring(attempt.prompt_id, attempt.graph.raw)

    def _end(self, attempt: Attempt) -> None:
        end = end_of_stopped(attempt.job, attempt.expired, now=self._clock.now_ms())
        assert end is not None
        self._ledger.settle(attempt, end)

    def _is_new(self, attempt: Attempt) -> bool:
        return (attempt.unsent_since or 0.0) + PATIENCE_S > self._clock.monotonic()

    def _unsent(self) -> list[Attempt]:
        return [each for each in self._ledger.attempts.values() if each.unsent and not each.settled]

    def _waits(self, prompt_id: PromptId) -> bool:
        attempt = self._ledger.attempts.get(prompt_id)
        return attempt is not None and not attempt.settled
