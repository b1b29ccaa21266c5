"""What an engine says, applied to the attempts it is about: events, answers to a POST, look-ups.

Nothing here waits and nothing is written here: an event counts from the moment at which it is read, and what
has to be written is left with its attempt. So one engine's events are never held up by the store, and an
engine that hangs holds up its answers only.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import assert_never

import structlog

from comfy_mcp.domain.catalog import OutputFile
from comfy_mcp.domain.errors import EngineFault
from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    EngineEvent,
    EngineWithoutEvents,
    FailureKind,
    FrameLost,
    JobEvent,
    JobFailure,
    PromptEnded,
    PromptSucceeded,
    QueueRemaining,
)
from comfy_mcp.domain.ids import PromptId
from comfy_mcp.domain.prompt import PromptResult
from comfy_mcp.driving.alarm import Alarm
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.containment import MAX_CONCLUDE_TRIES, RETRY_S, Containment
from comfy_mcp.driving.errands import Broke, Errands, Kept, Looked, Submitted
from comfy_mcp.driving.ledger import NO_SIZES, Ledger
from comfy_mcp.driving.means import Means
from comfy_mcp.driving.recovery import (
    Sighting,
    end_of_stopped,
    explain_absence,
    must_free_memory,
    name_of,
)
from comfy_mcp.places.protocol import Accepted, PromptView, PromptWhere, Rejected, Runner, Trouble

log = structlog.get_logger(__name__)

WORKER_LIMIT_S = 30.0
"""An engine that has prompts begins one within this; ComfyUI's garbage collection takes a second."""

QUIET_S = 3.0
"""A prompt without an event for this long is looked up, by two small requests: steps take less."""

POLL_S = 0.5
"""The same at an engine without events."""


class Hearing:
    """`connected`: the event stream is open. `polling`: the engine has none and answers requests.
    `foreign`: prompts at the engine that are not ours, by what it last said of its queue. `connection`: how
    often the stream has been opened."""

    def __init__(
        self,
        place: Runner,
        ledger: Ledger,
        errands: Errands,
        alarm: Alarm,
        means: Means,
        containment: Containment,
    ) -> None:
        self.connected = False
        self.polling = False
        self.foreign = 0
        self.connection = 0
        self._place = place
        self._ledger = ledger
        self._errands = errands
        self._alarm = alarm
        self._containment = containment
        self._clock = means.clock
        self._requeues: dict[PromptId, JobEvent] = {}
        self._results: dict[PromptId, tuple[PromptResult, Mapping[OutputFile, int]]] = {}
        self._log = log.bind(engine=place.engine)

    @property
    def trouble(self) -> Trouble | None:
        """What is wrong with the engine: as its place says, or it accepts prompts and runs none."""
        if (known := self._place.trouble) is not None and known.blocks:
            return known
        now = self._clock.monotonic()
        idle = (each.idle_since for each in self._ledger.attempts.values() if each.idle_since is not None)
        if (since := min(idle, default=now)) <= now - WORKER_LIMIT_S:
            return Trouble(
                cause=f"Engine {self._place.engine} accepts prompts and ran none for {now - since:.0f} s.",
                fix="Restart ComfyUI: the thread that runs prompts has ended; its log has the reason.",
            )
        return known

    @property
    def quiet_s(self) -> float:
        """A prompt without an event for this long is looked up."""
        return min(QUIET_S, POLL_S) if self.polling else QUIET_S

    # -------------------------------------------------------------------------------------------- events

    def event(self, event: EngineEvent) -> None:
        """The next event of the engine's stream."""
        match event:
            case QueueRemaining():
                foreign = event.count
                for each in self._ledger.attempts.values():
                    foreign -= each.in_engines_queue
                self.foreign = max(0, foreign)
            case EngineConnected():
                self.connected, self.polling = True, False
                self.connection += 1
                self._ledger.may_have_work = True
                self._log.info("engine_connected", in_flight=len(self._ledger.attempts))
                self._missed(event)
                self.look(self._ledger.attempts.values())  # nothing is replayed after a (re)connect
                self._alarm.ring()
            case EngineDisconnected():
                self.connected = self.polling = False
                self.foreign = 0
                self._log.warning("engine_disconnected", reason=event.reason)
                self._missed(event)
                self._alarm.ring()
            case EngineWithoutEvents():
                self.connected, self.polling = False, True
                self.foreign = 0
                self._log.warning("engine_without_events", reason=event.reason)
                self._ledger.may_have_work = True
                self._missed(event)
                self.look(self._ledger.attempts.values())
                self._alarm.ring()
            case FrameLost():
                self._missed(event)
            case _:
                self._of_prompt(event)

    def _missed(self, event: EngineConnected | EngineDisconnected | EngineWithoutEvents | FrameLost) -> None:
        for attempt in self._ledger.attempts.values():
            try:
                attempt.missed_events(event, self._clock.now_ms())
            except Exception as error:  # noqa: BLE001
                self._containment.not_heard(attempt, error)

    def _of_prompt(self, event: EngineEvent) -> None:
        attempt = self._ledger.attempts.get(getattr(event, "prompt_id", None) or PromptId(""))
        if attempt is None or attempt.settled:
            return  # somebody else's prompt, or one that has already ended
        now_ms, now = self._clock.now_ms(), self._clock.monotonic()
        try:
            attempt.hear(event, now_ms=now_ms, now=now, place=self._place)
        except Exception as error:  # noqa: BLE001
            self._containment.not_heard(attempt, error)
        if isinstance(event, PromptSucceeded | PromptEnded):
            with self._containment.step(attempt, "conclude"):
                self._ended(attempt, event)
        elif (due := attempt.due) is not None and due < self._alarm.due:
            self._alarm.by(max(due, self._ledger.retry_at))

    def _ended(self, attempt: Attempt, event: PromptSucceeded | PromptEnded) -> None:
        if isinstance(event, PromptSucceeded):
            result = attempt.whole_story
            if result is not None:
                self._over(attempt, result, NO_SIZES)
            elif attempt.due is not None:
                self._alarm.by(max(attempt.due, self._ledger.retry_at))
        else:
            # The moment at which the history entry exists; success comes before it.
            self.look([attempt])
            self._alarm.ring()  # there is room for another one

    # ------------------------------------------------------------------------------------------- answers

    def submitted(self, message: Submitted) -> None:
        attempt = self._ledger.attempts.get(message.prompt_id)
        if attempt is None:
            return
        attempt.submitting = False
        attempt.heard_at = self._clock.monotonic()
        with self._containment.step(attempt, "submit"):
            self._submitted(attempt, message.answer)

    def _submitted(self, attempt: Attempt, answer: Accepted | Rejected | EngineFault | Broke) -> None:
        match answer:
            case Accepted(dropped=dropped, reference=reference):
                attempt.accepted = True
                attempt.extra_data = None  # may be as large as the graph; sent once
                attempt.reference = reference
                attempt.connection = self.connection if self.connected else None
                if dropped:
                    self._log.warning("branches_dropped", job_id=attempt.job.id, nodes=sorted(dropped))
                if attempt.look_again:  # it ended, or the stream broke, before the POST was answered
                    self.look([attempt])
            case Rejected(failure=failure):
                self._ledger.settle(attempt, self._ledger.ends.of_refusal(attempt, failure))
            case EngineFault() as fault:
                # Not known whether the engine has it: look, never send it again blindly.
                self._log.warning("submit_unanswered", job_id=attempt.job.id, error=str(fault))
                attempt.not_sent_because = fault.message
                self.look([attempt])
            case Broke(error=error):
                self._containment.failed(attempt, "submit", error)
                self.look([attempt])
            case _:
                assert_never(answer)

    def send(self, attempt: Attempt) -> None:
        """Post it, with its files where they had to be brought."""
        graph = attempt.graph.raw if attempt.ready is None else attempt.ready
        attempt.unsent_since = attempt.ready = None
        attempt.submitting = True
        self._errands.submit(attempt.prompt_id, graph, attempt.extra_data)

    def freed(self, prompt_id: PromptId) -> None:
        attempt, requeue = self._ledger.attempts.get(prompt_id), self._requeues.pop(prompt_id)
        if attempt is not None:
            with self._containment.step(attempt, "free"):
                self._ledger.settle(attempt, requeue)

    def kept(self, message: Kept) -> None:
        attempt, (result, sizes) = (
            self._ledger.attempts.get(message.prompt_id),
            self._results.pop(message.prompt_id),
        )
        if attempt is not None:
            attempt.settled = False  # it waited for this
            attempt.lost_pictures += message.lost
            with self._containment.step(attempt, "keep"):
                outputs = (*result.outputs, *message.sizes)
                self._over(attempt, replace(result, outputs=outputs), {**sizes, **message.sizes})

    def looked(self, message: Looked) -> None:
        for prompt_id in message.asked:
            attempt = self._ledger.attempts.get(prompt_id)
            if attempt is None or attempt.settled:
                continue
            attempt.looking = False
            attempt.heard_at = self._clock.monotonic()
            with self._containment.step(attempt, "look"):
                self._looked(attempt, message)
            attempt.quiet = False
            if attempt.look_again and not attempt.settled:
                self.look([attempt])

    def _looked(self, attempt: Attempt, message: Looked) -> None:
        view = message.views.get(attempt.prompt_id)
        if (error := message.broke.get(attempt.prompt_id)) is not None:
            self._containment.failed(attempt, "look", error)
        elif view is None:
            if message.bad_answer is not None and attempt.told_result() is not None:
                self._unreadable(attempt, message.bad_answer)
        elif view.where is PromptWhere.ABSENT and attempt.heard_meanwhile:
            attempt.look_again = True  # a late POST: the engine did not have it yet when it was asked
        else:
            if self._is_deaf(attempt, view):
                self._log.warning("stream_is_deaf", job_id=attempt.job.id)
                self._errands.reconnect()
            self._seen(attempt, view, message.sizes)

    def look(self, attempts: Iterable[Attempt]) -> None:
        """Look the prompts up now, or again as soon as a running lookup or POST has been answered."""
        asked: list[PromptId] = []
        files: dict[OutputFile, None] = {}
        for attempt in attempts:
            if attempt.settled or attempt.unsent:
                continue
            attempt.look_again = attempt.looking or attempt.submitting
            if not attempt.look_again:
                attempt.begin_look()
                asked.append(attempt.prompt_id)
                files.update(attempt.files)
        if asked:
            self._errands.look(asked, files)

    # ------------------------------------------------------------------------------------- what it means

    def _is_deaf(self, attempt: Attempt, view: PromptView) -> bool:
        """A prompt sent over the open stream moved on and the stream did not say so (quirk: an old socket
        with the same client id that closes late unregisters the new one)."""
        return attempt.quiet and self._same_stream(attempt) and view.where is PromptWhere.FINISHED

    def _same_stream(self, attempt: Attempt) -> bool:
        return self.connected and attempt.connection == self.connection

    def _seen(self, attempt: Attempt, view: PromptView, sizes: Mapping[OutputFile, int]) -> None:
        if view.where is PromptWhere.ABSENT:
            self._absent(attempt, sizes)
            return
        if view.where is PromptWhere.UNREADABLE:
            self._unreadable(attempt, view.fault or "")
            return
        attempt.accepted = True
        attempt.absent_since = None
        attempt.reference = view.reference or attempt.reference
        attempt.idle_since = (attempt.idle_since or self._clock.monotonic()) if view.engine_idle else None
        if view.where is PromptWhere.RUNNING:
            attempt.start(self._clock.now_ms(), self._clock.monotonic())
        elif view.where is PromptWhere.FINISHED:
            assert view.result is not None
            self._over(attempt, view.result, sizes)

    def _over(self, attempt: Attempt, result: PromptResult, sizes: Mapping[OutputFile, int]) -> None:
        attempt.over = True
        if attempt.pictures:
            attempt.settled = True  # the end is known, and waits for the files
            self._results[attempt.prompt_id] = result, sizes
            self._errands.keep(attempt.prompt_id, attempt.pictures)
            attempt.pictures = []
            self._alarm.ring()
            return
        self._check_deadline(attempt)
        end = self._ledger.ends.of_result(attempt, result)
        if must_free_memory(end):
            # Asked and answered before the job waits again: nobody sends it to an engine that is full still.
            attempt.settled = True
            self._requeues[attempt.prompt_id] = end
            self._errands.free(attempt.prompt_id)
        else:
            self._ledger.settle(attempt, end, result.outputs, sizes)
        self._alarm.ring()

    def _unreadable(self, attempt: Attempt, fault: str) -> None:
        """The engine's answer about the end can't be read. After MAX_CONCLUDE_TRIES the job ends as its
        events said, or fails."""
        attempt.tries += 1
        self._log.warning("history_unreadable", job_id=attempt.job.id, tries=attempt.tries, error=fault)
        if attempt.tries < MAX_CONCLUDE_TRIES:
            attempt.look_due = self._clock.monotonic() + RETRY_S
            return
        told = attempt.told_result()
        if told is not None:
            self._over(attempt, told, NO_SIZES)
            return
        who = name_of(attempt.job)
        message = f"The run is over, and the bridge can't read what {who} says of it. {fault}"
        failure = JobFailure(kind=FailureKind.ENGINE_BAD_ANSWER, message=message)
        files = tuple(attempt.files)
        end = replace(self._ledger.ends.failed(attempt.job, failure), output_count=len(files))
        self._ledger.settle(attempt, end, files)

    def _absent(self, attempt: Attempt, sizes: Mapping[OutputFile, int]) -> None:
        told = attempt.told_result()
        if told is not None:  # the history lost it, but the events had its end
            self._over(attempt, told, sizes)
            return
        now = self._clock.monotonic()
        if not attempt.accepted:
            # A POST that got no answer may still be on its way: believe the absence only when it lasts.
            attempt.absent_since = now if attempt.absent_since is None else attempt.absent_since
            if now - attempt.absent_since < QUIET_S:
                return
        self._check_deadline(attempt)
        seen = Sighting(
            accepted=attempt.accepted,
            same_connection=self._same_stream(attempt),
            expired=attempt.expired,
            answer=attempt.not_sent_because,
        )
        now_ms, limit = self._clock.now_ms(), self._ledger.ends.max_attempts(attempt.job)
        self._ledger.settle(attempt, explain_absence(attempt.job, seen, max_attempts=limit, now=now_ms))

    def end_here(self, attempt: Attempt) -> None:
        """End what was cancelled, or is overdue, without the engine's word."""
        told = attempt.told_result()
        if told is not None:
            self._over(attempt, told, NO_SIZES)
            return
        files = tuple(attempt.files)
        end = end_of_stopped(attempt.job, attempt.expired, now=self._clock.now_ms(), output_count=len(files))
        if end is not None:
            self._log.warning("ended_without_the_engine", job_id=attempt.job.id)
            self._ledger.settle(attempt, end, files)

    def check_deadlines(self) -> None:
        for attempt in self._ledger.attempts.values():
            if not attempt.settled:
                with self._containment.step(attempt, "deadline"):
                    self._check_deadline(attempt)

    def _check_deadline(self, attempt: Attempt) -> None:
        """Before an end is judged, too: an interrupt may be the answer to what was asked at the deadline."""
        deadline = attempt.check_deadline(self._clock.monotonic())
        if deadline is not None:
            self._log.info("deadline_passed", job_id=attempt.job.id, deadline=deadline.value)
