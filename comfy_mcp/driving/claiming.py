"""How jobs become attempts of a tenure: adopted from whoever drove the engine before, claimed from the queue,
claimed with the end of the job before, or handed over by a submit.

What a claim needs of the store is written before anything is sent, so whatever dies then, it is found again.
"""

import asyncio
from collections.abc import Mapping

import structlog

from comfy_mcp.domain import large_json
from comfy_mcp.domain.errors import Fenced, InvalidGraph, StoreFault
from comfy_mcp.domain.events import FailureKind, JobFailure
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.ids import PromptId
from comfy_mcp.domain.node_times import NodeTimes, keys_of, times_of
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.checked import Checked
from comfy_mcp.driving.containment import Containment
from comfy_mcp.driving.fleet import Choice
from comfy_mcp.driving.ledger import Ledger
from comfy_mcp.driving.means import Means
from comfy_mcp.driving.memory_gate import MemoryGate
from comfy_mcp.driving.offers import Offers
from comfy_mcp.places.protocol import Runner
from comfy_mcp.store import Claim, ClaimOffer, Lease

log = structlog.get_logger(__name__)

THREAD_BYTES = 262_144
"""A graph with a longer text is read and checked in a thread."""

MAX_UNSENT = 4
"""Attempts of one engine that wait for their files, at once."""


class Claiming:
    """One tenure's; the `ledger` keeps the attempts, and whether there may be work. `left`: the last claim
    left jobs to other engines, for now. `seen`: it found that jobs wait. `offers` are made to the store."""

    def __init__(
        self,
        *,
        lease: Lease,
        place: Runner,
        means: Means,
        gate: MemoryGate,
        containment: Containment,
        ledger: Ledger,
    ) -> None:
        self.seen = False
        self.offers = Offers(lease, means.lane, place, means.new_id)
        self._lease = lease
        self._place = place
        self._lane = means.lane
        self._store = means.store
        self._clock = means.clock
        self._new_id = means.new_id
        self._checked = means.checked
        self._fleet = means.fleet
        self._concerns = means.concerns
        self._gate = gate
        self._containment = containment
        self._ledger = ledger
        self._may_have_held = True  # a process before this one, with another setting
        self._log = log.bind(engine=lease.engine)

    async def adopt(self) -> None:
        """What the engine has, or may have, from whoever drove it before. Raises StoreFault."""
        for claim in await self._store.adopt(self._lease):
            assert claim.job.prompt_id is not None
            self._place.recall(claim.job.prompt_id, claim.reference)
            await self.admit(claim)

    async def claim(self) -> Attempt | None:
        """The next job. Its prompt_id is on disk: whatever dies now, it can be found again.

        None: there is none now, or the store refused. Raises Fenced.
        """
        self._ledger.may_have_work = False  # before the look: what arrives meanwhile says so again
        try:
            claim = await self._unheard() or await self._look()
        except Fenced:
            raise
        except StoreFault as fault:
            self._ledger.refused(fault)
            self._ledger.may_have_work = True
            return None
        except Exception:  # noqa: BLE001 - what runs must go on
            self._log.error("claim_failed", exc_info=True)
            self._ledger.pause()
            self._ledger.may_have_work = True
            return None
        return await self._claimed(claim)

    async def write_due(self, *, room: bool) -> Attempt | None:
        """Everything whose time has come. Raises Fenced.

        With `room`, the next job is claimed in the transaction of the last end, and returned: what follows an
        end costs no second one.
        """
        along = await self._ledger.write_due(self._along if room else _no_offer)
        if along is None:
            return None
        offer, claim = along
        self.offers.answered(offer)
        if isinstance(offer.chooser, Choice):
            self._note_left(offer.chooser.left)
        return await self._claimed(claim)

    async def any_waits(self) -> bool:
        """Whether it is worth asking what there is room for. A store that refuses is asked again later."""
        self._ledger.may_have_work = False  # before the look, as in `claim`
        try:
            waits = await self._store.any_waits(now=self._clock.now_ms(), lane=self._lane)
        except StoreFault as fault:
            self._ledger.refused(fault)
            self._ledger.may_have_work = True
            return False
        self._ledger.may_have_work |= waits
        return self._ledger.may_have_work

    async def is_wanted(self) -> bool:
        """Whether a job waits for which it is worth starting an engine that sleeps."""
        self._ledger.may_have_work = False  # before the look, as in `claim`
        peek = self._fleet.chooser(self._lease.engine).peek()
        try:
            await self._store.claim_next(
                self._lease,
                prompt_id=PromptId(self._new_id()),
                now=self._clock.now_ms(),
                lane=self._lane,
                stream_id=self._place.stream_id,
                chooser=peek,
            )
        except StoreFault as fault:
            if isinstance(fault, Fenced):
                raise
            self._ledger.refused(fault)
            self._ledger.may_have_work = True
        self._ledger.may_have_work |= peek.wanted
        return peek.wanted

    async def admit(self, claim: Claim, checked: Checked | None = None) -> Attempt | None:
        """Follow a claimed job; `checked` is its graph, if it is known. None: it can't be followed, and has
        failed."""
        job = claim.job
        try:
            checked = checked or self._checked.take(job.id) or await self._check(claim.text)
            times = times_of(checked.graph)
            return self._followed(claim, checked, times, await self._known_durations(times))
        except StoreFault:
            raise
        except InvalidGraph as error:
            failure = JobFailure(kind=FailureKind.VALIDATION, message=error.message)
            end = self._ledger.ends.failed(job, failure)
        except Exception as error:  # noqa: BLE001 - the other jobs must go on
            end = self._containment.refuse(job, "prepare", error)
        await self._ledger.end(job.id, end)
        return None

    def follow_now(self, claim: Claim, checked: Checked) -> Attempt | None:
        """The same in one step; None where it can't be: its nodes' times must be read, or a defect came."""
        times = times_of(checked.graph)
        durations = self._ledger.durations.known_now(keys_of(times))
        try:
            return None if durations is None else self._followed(claim, checked, times, durations)
        except Exception:  # noqa: BLE001 - `admit` meets it again, and has time to write the job's end
            return None

    @property
    def left(self) -> bool:
        return self._lease.engine in self._concerns.left

    def _note_left(self, left: bool) -> None:
        (self._concerns.left.add if left else self._concerns.left.discard)(self._lease.engine)

    @property
    def takes_files(self) -> bool:
        """Whether a job whose files have to be brought may be claimed."""
        return sum(attempt.unsent for attempt in self._ledger.attempts.values()) < MAX_UNSENT

    def _chooser(self) -> Choice:
        return self._fleet.chooser(self._lease.engine, takes_files=self.takes_files)

    def _along(self) -> ClaimOffer | None:
        """Room for the next job, where work is expected and no job may be held for memory."""
        if not self._ledger.may_have_work or self._gate.on or self._may_have_held:
            return None
        return self.offers.make(self._chooser())

    async def _unheard(self) -> Claim | None:
        """A claim that was written with an open offer: nobody has sent its prompt. Raises StoreFault."""
        asked = self.offers.unheard
        if not asked:
            return None
        found = [each for each in await self._store.adopt(self._lease) if each.job.prompt_id in asked]
        self.offers.looked_up(asked, [each.job.prompt_id for each in found[1:]])
        self._ledger.may_have_work |= bool(found)
        return found[0] if found else None

    async def _look(self) -> Claim | None:
        admission = self._gate.admission() if self._gate.on or self._may_have_held else None
        chooser = self._chooser()
        offer = self.offers.make(chooser)
        claim = await self._store.claim_next(
            self._lease,
            prompt_id=offer.prompt_id,
            now=self._clock.now_ms(),
            lane=self._lane,
            stream_id=offer.stream_id,
            admission=admission,
            chooser=chooser,
        )
        self.offers.answered(offer)
        self.seen = chooser.seen
        self._note_left(chooser.left)
        self._may_have_held = False
        if admission is not None and self._gate.on:
            self._gate.looked(admission, holding=claim is None and await self._store.any_held())
        return claim

    async def _claimed(self, claim: Claim | None) -> Attempt | None:
        if claim is None:
            return None
        self._ledger.may_have_work |= claim.more
        return await self.admit(claim)

    def _followed(
        self,
        claim: Claim,
        checked: Checked,
        times: Mapping[str, NodeTimes],
        durations: Mapping[str, float],
    ) -> Attempt:
        job = claim.job
        attempt = Attempt(
            job,
            checked,
            times,
            durations,
            heard_at=self._clock.monotonic(),
            now_ms=self._clock.now_ms(),
            on_start=self._ledger.run_began,
            stream_id=claim.stream_id,
        )
        attempt.needs = claim.needs
        self._ledger.counts(attempt)
        if claim.submitted is not None:
            attempt.extra_data = claim.submitted.extra_data(job.client)
        if job.cancel_requested:
            attempt.ask_cancel(self._clock.monotonic())
        self._ledger.attempts[attempt.prompt_id] = attempt
        self._concerns.follow(self._lease.engine, job.id)
        return attempt

    async def _check(self, text: str) -> Checked:
        """A large graph in a thread, so that others have their turn meanwhile. Raises InvalidGraph."""
        if len(text) <= THREAD_BYTES:
            return _checked(text, self._place.known_nodes)
        return await asyncio.to_thread(_checked, text, self._place.known_nodes)

    async def _known_durations(self, times: Mapping[str, NodeTimes]) -> Mapping[str, float]:
        try:
            return await self._ledger.durations.known(keys_of(times))
        except StoreFault:
            return {}  # they only weigh the progress; the job is claimed and must be followed


def _no_offer() -> None:
    return None


def _checked(text: str, nodes: ObjectInfo | None) -> Checked:
    graph = parse_graph(large_json.loads(text))
    report = check_graph(graph, nodes)
    return Checked(graph=graph, report=report if report.runnable else check_graph(graph, None))
