"""One prompt in flight, as the process that drives its engine sees it.

An Attempt turns what the engine says into the JobEvents that have to be written. It does no I/O and reads
no clock; the tenure owns it and writes what is `pending`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, assert_never

from comfy_mcp.domain.catalog import Output, OutputFile
from comfy_mcp.domain.deadlines import Deadline
from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    EngineEvent,
    EngineWithoutEvents,
    FrameLost,
    JobEvent,
    JobFailure,
    JobProgressed,
    JobStarted,
    NodeExecuted,
    NodeProgressed,
    NodesCached,
    NodeStarted,
    PreviewFrame,
    PromptEnded,
    PromptFailed,
    PromptInterrupted,
    PromptStarted,
    PromptSucceeded,
    QueueRemaining,
    UnknownMessage,
)
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.ids import NodeId, PromptId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.needs import Needs
from comfy_mcp.domain.node_times import NodeTimes
from comfy_mcp.domain.progress import Progress
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.driving.checked import Checked
from comfy_mcp.places.protocol import Picture, Runner

START_DELAY_S = 0.025
"""The write of the start is delayed by this, to include what follows: a job of milliseconds then takes one
transaction, not three. Other processes look for news no sooner (operations/feed/hub.py)."""


MAX_OUTPUTS = 10_000
"""Of one attempt; the rest stays in the engine's folder and is not recorded."""

TEXT_CHARS = 64 * 2**20
"""Of the texts among them, all together: a history of more is not read either."""

PREVIEW_BYTES = 2**19
"""Of one preview; a larger one is not kept. ComfyUI's have 512 pixels."""

PREVIEWS = frozenset({"image/jpeg", "image/png", "image/webp"})
"""What a client can show."""

PICTURE_BYTES = 128 * 2**20
"""Most bytes of pictures that one attempt holds until its end: some sixty of 1024 x 1024."""


PROGRESS_S = 0.25
"""Minimum time between two step updates, which people watch; the last one is always sent."""

FROM_CACHE = (
    "ComfyUI had all of it in its cache and ran nothing: the outputs are those of an earlier run. "
    "For new ones change an input, such as the seed."
)


class Attempt:
    """Mutable, and its tenure's own. `…_due` and `…_at` are monotonic seconds."""

    def __init__(
        self,
        job: Job,
        checked: Checked,
        times: Mapping[str, NodeTimes],
        durations: Mapping[str, float],
        *,
        heard_at: float,
        now_ms: int,
        on_start: Callable[[PromptId], None],
        stream_id: str | None = None,
    ) -> None:
        """`times`: what the durations of the graph's nodes depend on. `on_start` is called at the start,
        unless another process saw it. `stream_id`: where the engine sends the prompt's events."""
        assert job.prompt_id is not None
        self.job = job
        self.prompt_id: PromptId = job.prompt_id
        self.stream_id = stream_id
        self.pending: list[JobEvent] = []
        self.outputs: list[Output] = []  # written with the end, which is the last of `pending`
        self.files: dict[OutputFile, None] = {}
        self._text_chars = 0
        self.reference: str | None = None  # what the place calls it, as long as that is not written
        self.heard_at = heard_at
        self.unsent_since: float | None = None  # its files are being brought: the engine does not have it
        self.bring_due: float | None = None  # when they are to be brought; None: they are being, or are there
        self.bring_tries = 0
        self.ready: Mapping[str, Any] | None = None  # what is to be sent, now that they are there
        self.submitting = False
        self.accepted = job.status is JobStatus.RUNNING
        self.connection: int | None = None
        self.looking = False
        self.heard_meanwhile = False  # an event came after the look under way had begun
        self.look_again = False
        self.quiet = False  # the look under way was not caused by an event
        self.settled = False
        self.over = False  # the engine has done with it; what came of it is still to be read
        self.absent_since: float | None = None
        self.tries = 0  # steps that failed, and answers about it that could not be read
        self.look_due: float | None = None  # the next try, sooner than an engine's silence asks for one
        self.not_before = float("-inf")  # nothing is written sooner: the last write failed
        self.story_lost = False
        self.idle_since: float | None = None  # it waits at an engine that runs nothing
        self.not_sent_because: str | None = None  # what was answered to the POST
        self.ran_ms: int | None = None  # as the place measured it
        self.stop_asked_at: float | None = None
        self.cancel_due: float | None = None
        self.cancel_tries = 0
        self.expired: Deadline | None = None  # the deadline for which the engine is asked to stop it
        self._write_due = float("-inf")
        self._progress_due: float | None = None
        self.lost_pictures = 0
        self.pictures: list[Picture] = []  # that an output node sent and did not save
        self.preview: PreviewFrame | None = None  # the last one; it goes with the attempt
        self.graph = checked.graph
        self.extra_data: ExtraData | None = None  # goes with the graph
        self.needs: Needs | None = None
        self._report = checked.report
        self._times = times
        self._durations = durations
        self._progress: Progress | None = None
        self._on_start = on_start
        self._progress_at = float("-inf")
        self._started = self.accepted
        # Deadlines are kept as epoch times; from here on this process's own clock counts, whatever happens to
        # the other one.
        deadline = job.run_deadline if self._started else job.queue_deadline
        self._deadline = None if deadline is None else heard_at + (deadline - now_ms) / 1000
        self._unbroken = False  # every event of the run was received, from its start on
        self._cached_unsaid: set[NodeId] = set()  # from the engine's cache, and not `executed` since
        self._ending: PromptEnding | None = None
        self._failure: JobFailure | None = None

    @property
    def observed(self) -> Mapping[str, list[float]]:
        """Milliseconds per class_type, of the nodes that really ran in this attempt."""
        return self._progress.observed() if self._progress is not None else {}

    def hear(self, event: EngineEvent, *, now_ms: int, now: float, place: Runner) -> None:
        """Take in one event about this prompt. `place` knows which stream is open now."""
        self.heard_at = now
        self.heard_meanwhile = True
        self.accepted = True
        self.absent_since = None
        match event:
            case PromptStarted():
                # Twice, or on an older stream that is followed beside the present one: not reliable.
                self._unbroken = self._progress is None and self.stream_id == place.stream_id
                self._advance(event, now_ms, now)
            case NodesCached() | NodeStarted() | NodeProgressed() | NodeExecuted():
                self._note_outputs(event)
                self._advance(event, now_ms, now)
            case PromptSucceeded():
                self._ending = PromptEnding.SUCCESS
                if self._progress is not None:
                    self._progress.apply(event, now_ms)  # the last node's time ends here
            case PromptFailed():
                self._ending, self._failure = PromptEnding.ERROR, event.failure
            case PromptInterrupted():
                self._ending = PromptEnding.INTERRUPTED
            case PromptEnded():
                self.over = True
            case PreviewFrame():
                self._note_picture(event)
            case (
                QueueRemaining()
                | EngineConnected()
                | EngineDisconnected()
                | EngineWithoutEvents()
                | FrameLost()
                | UnknownMessage()
            ):
                pass
            case _:
                assert_never(event)

    @property
    def unsent(self) -> bool:
        """The engine certainly does not have it: its files are being brought."""
        return self.unsent_since is not None

    def begin_look(self) -> None:
        self.looking, self.heard_meanwhile, self.look_due = True, False, None

    @property
    def due(self) -> float | None:
        """When something has to be written. None: nothing has."""
        if self.reference is not None:
            return self.not_before  # until it is written, only this process can find the prompt
        if self.pending:
            return max(self._write_due, self.not_before)
        return self._progress_due

    def start(self, now_ms: int, now: float) -> None:
        """The engine works on it: said by an event, or seen in its queue after a resync."""
        if not self._started:
            self._started = True
            self.idle_since = None
            self._on_start(self.prompt_id)
            limit_ms = self.job.run_left_ms
            self._deadline = None if limit_ms is None else now + limit_ms / 1000
            self._write_due = now + START_DELAY_S
            self._progress_at = self._write_due - PROGRESS_S  # the first step goes with the start
            self.pending.append(JobStarted(job_id=self.job.id, at=now_ms, attempt=self.job.attempt))

    def ask_cancel(self, now: float) -> None:
        """The cancel begins as soon as the POST has been answered."""
        self.job = replace(self.job, cancel_requested=True)
        if self.cancel_due is None:
            self.cancel_due = now

    @property
    def deadline(self) -> float | None:
        """When it will have waited or run for too long. None: never, or the engine is asked to stop it."""
        return self._deadline if self.expired is None else None

    def check_deadline(self, now: float) -> Deadline | None:
        """The deadline that has just passed: the engine has to be asked to stop it, until it has."""
        if self.deadline is None or now < self.deadline:
            return None
        self.expired = Deadline.RUN if self._started else Deadline.QUEUE
        self.cancel_due = now if self.cancel_due is None else self.cancel_due
        return self.expired

    def report_progress(self, *, now_ms: int, now: float) -> None:
        """Put the latest progress among the pending events, if its time has come."""
        if self._progress is None or self._progress_due is None or self._progress_due > now:
            return
        self._progress_due = None
        self._progress_at = now
        node = self._progress.current
        self.pending.append(
            JobProgressed(
                job_id=self.job.id,
                at=now_ms,
                attempt=self.job.attempt,
                progress=self._progress.fraction,
                node_id=node.id if node else None,
                node_title=node.title if node else None,
                eta_ms=self._progress.eta_ms(now_ms),
            )
        )

    @property
    def in_engines_queue(self) -> bool:
        """The engine may count it among its prompts: there was no event of its end."""
        return self._ending is None and not self.unsent

    @property
    def whole_story(self) -> PromptResult | None:
        """A success whose events say all that the history will; None: it has to be looked up.

        Files of an output node that came from the cache count as said only when the engine repeated them:
        versions differ in that.
        """
        if not self._unbroken or self._ending is not PromptEnding.SUCCESS:
            return None
        return None if self._cached_unsaid.intersection(self._report.outputs) else self.told_result()

    def told_result(self) -> PromptResult | None:
        """The end by the events alone, in case the history has already lost it."""
        if self._ending is None:
            return None
        return PromptResult(ending=self._ending, outputs=tuple(self.files), failure=self._failure)

    def missed_events(
        self, event: EngineConnected | EngineDisconnected | EngineWithoutEvents | FrameLost, now_ms: int
    ) -> None:
        """The end has to be looked up then. Durations measured over a reconnect are dropped."""
        self._unbroken = False
        if self._progress is not None and isinstance(event, EngineConnected):
            self._progress.apply(event, now_ms)

    def settle(self, end: JobEvent, outputs: Sequence[Output] = ()) -> None:
        """`end` ends the attempt: later events are ignored, and it is written at once."""
        self.settled = True
        self._write_due = float("-inf")
        self._progress_due = None
        self.pending.append(end)
        self.outputs.extend(outputs)

    def give_up(self, end: JobEvent) -> None:
        """`end` ends it, without what was to be written before: that may be what can't be written."""
        self.settled = True
        self.pending, self.outputs, self.reference = [end], [], None
        self.not_before = self._write_due = float("-inf")
        self._progress_due = None

    def lose_story(self) -> None:
        """An event could not be applied: the end has to be looked up."""
        self.story_lost = True
        self._unbroken = False

    def take_pending(self) -> tuple[list[JobEvent], list[Output]]:
        """What is to be written; what happens while it is being written is pending anew."""
        taken = self.pending, self.outputs
        self.pending, self.outputs = [], []
        return taken

    def put_back(self, events: list[JobEvent], outputs: list[Output]) -> None:
        """The store refused them."""
        self.pending, self.outputs = events + self.pending, outputs + self.outputs

    def written(self, job: Job) -> None:
        """The store has the job like this. A request to cancel is never withdrawn, and the store may show
        steps only."""
        asked = self.job.cancel_requested and not job.cancel_requested
        self.job = replace(job, cancel_requested=True) if asked else job

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an end must say: pictures that nobody can see any more, and that nothing was run."""
        if self._progress is not None and self._progress.all_cached:
            return (FROM_CACHE,)
        if not self.lost_pictures:
            return ()
        lost = f"{self.lost_pictures} picture(s) that the workflow sent over the WebSocket could not be saved"
        return (f"{lost}: use SaveImage, or see the bridge's log.",)

    def _note_picture(self, event: PreviewFrame) -> None:
        """Previews are JPEG. A PNG of an output node (SaveImageWebsocket) is its output."""
        if event.media_type != "image/png" or event.node not in self._report.outputs:
            if event.media_type in PREVIEWS and len(event.data) <= PREVIEW_BYTES:
                self.preview = event
            return
        if sum(len(each.data) for each in self.pictures) + len(event.data) > PICTURE_BYTES:
            self.lost_pictures += 1
            return
        self.pictures.append(Picture(node=event.node, data=event.data))

    def _note_outputs(self, event: EngineEvent) -> None:
        if isinstance(event, NodesCached):
            self._cached_unsaid.update(set(self._report.outputs).intersection(event.nodes))
        elif isinstance(event, NodeExecuted):
            for each in event.outputs[: MAX_OUTPUTS - len(self.files)]:
                self._text_chars += 0 if each.text is None or each in self.files else len(each.text)
                if each.text is None or self._text_chars <= TEXT_CHARS:
                    self.files[each] = None
            self._cached_unsaid.discard(event.node)

    def _advance(
        self,
        event: PromptStarted | NodesCached | NodeStarted | NodeProgressed | NodeExecuted,
        now_ms: int,
        now: float,
    ) -> None:
        if not self._started:
            self.start(now_ms, now)
        if self._progress is None:
            since = now_ms if self.job.started_at is None else self.job.started_at
            self._progress = Progress(
                self.graph, self._report.needed, self._durations, started_at=since, times=self._times
            )
            if not isinstance(event, PromptStarted):  # taken over in the middle of its run
                self._progress.apply(EngineConnected(sid=None), now_ms)
        if self._progress.apply(event, now_ms) and self._progress_due is None:
            self._progress_due = max(now, self._progress_at + PROGRESS_S)
