"""What a short job costs: few transactions, one POST at a time, and nothing is asked twice."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.events import JobEvent, NodeExecuted, NodeStarted, PromptSucceeded, StoredEvent
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.ids import JobId, NodeId, PromptId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.driving import attempt
from comfy_mcp.places.protocol import Accepted, PromptView, Rejected
from comfy_mcp.store import Claim, ClaimOffer, Lease, Store
from tests.driving.conftest import House
from tests.support.jobs import queued_event
from tests.support.scripted_place import ScriptedPlace


class CountingStore:
    """The real one, with a note of what a driver asked of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.records: list[list[str]] = []
        self.claims: list[Claim | None] = []
        self.claimed_with_an_end = 0
        self.defect: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def record(
        self, lease: Lease, job_id: JobId, events: Sequence[JobEvent], *, outputs: Sequence[Output] = ()
    ) -> Job:
        self.records.append([event.type for event in events])
        return await self._store.record(lease, job_id, events, outputs=outputs)

    async def record_and_claim(
        self, job_id: JobId, events: Sequence[JobEvent], *, outputs: Sequence[Output], offer: ClaimOffer
    ) -> tuple[Job, Claim | None]:
        if self.defect is not None:
            raise self.defect
        self.records.append([event.type for event in events])
        job, claim = await self._store.record_and_claim(job_id, events, outputs=outputs, offer=offer)
        self.claims.append(claim)
        self.claimed_with_an_end += claim is not None
        return job, claim

    async def claim_next(self, lease: Lease, **how: Any) -> Claim | None:
        claim = await self._store.claim_next(lease, **how)
        self.claims.append(claim)
        return claim


def counted(house: House) -> CountingStore:
    store = CountingStore(house.store)
    house.store = store  # type: ignore[assignment]
    return store


async def end_by_events(place: ScriptedPlace, prompt: PromptId) -> None:
    """Such an end needs no lookup: it is written in the turn in which it is received."""
    await place.start(prompt)
    await place.say(
        NodeStarted(prompt_id=prompt, node=NodeId("1")),
        NodeExecuted(prompt_id=prompt, node=NodeId("2")),
        PromptSucceeded(prompt_id=prompt),
    )
    await place.finish(prompt)


async def run(house: House, place: ScriptedPlace, count: int) -> JobId:
    job_id = await house.submit()
    await place.until(lambda: len(place.posted) == count)
    await end_by_events(place, place.posted[-1])
    assert (await house.final(job_id)).status is JobStatus.COMPLETED
    return job_id


async def test_a_job_that_is_over_at_once_is_written_down_at_once(
    house: House, place: ScriptedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "START_DELAY_S", 3600.0)
    store = counted(house)
    house.drive(place)

    job_id = await run(house, place, 1)

    assert store.records == [["started", "completed"]]
    assert await house.event_types(job_id) == ["queued", "claimed", "started", "completed"]


async def test_the_start_of_a_longer_job_is_told_while_it_runs(house: House, place: ScriptedPlace) -> None:
    store = counted(house)
    house.drive(place)
    job_id = await house.submit()
    await place.until(lambda: len(place.posted) == 1)
    await place.start(place.posted[0])

    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)

    await place.finish(place.posted[0])
    await house.final(job_id)
    assert store.records == [["started"], ["completed"]]


async def finish_all(house: House, place: ScriptedPlace, jobs: Sequence[JobId]) -> None:
    """One after the other, and none while the next is on its way: two are at the engine."""
    for number in range(len(jobs)):
        there = min(number + 2, len(jobs))
        await place.until(lambda there=there: len(place.posted) >= there)  # type: ignore[misc]
        await end_by_events(place, place.posted[number])
    for job_id in jobs:
        assert (await house.final(job_id)).status is JobStatus.COMPLETED


async def test_the_next_job_is_claimed_with_the_end_of_the_last(house: House, place: ScriptedPlace) -> None:
    jobs = [await house.submit() for _ in range(4)]
    store = counted(house)
    house.drive(place)
    await finish_all(house, place, jobs)
    assert [claim.job.id for claim in store.claims if claim] == jobs
    assert store.claimed_with_an_end > 0


async def test_a_claim_that_meets_a_defect_does_not_hold_up_the_end_before_it(
    house: House, place: ScriptedPlace
) -> None:
    jobs = [await house.submit() for _ in range(4)]
    store = counted(house)
    store.defect = RuntimeError("a row that can't be read")
    house.drive(place)
    await finish_all(house, place, jobs)
    assert store.claimed_with_an_end == 0


async def test_a_queue_that_is_known_to_be_empty_is_not_asked_again(
    house: House, place: ScriptedPlace
) -> None:
    await house.submit()
    await house.submit()
    store = counted(house)
    house.drive(place)
    for number in range(2):
        await place.until(lambda number=number: len(place.posted) > number)  # type: ignore[misc]
        await place.start(place.posted[number])
        await place.finish(place.posted[number])
    await house.final((await _claimed(store, 2))[1].job.id)

    assert [claim and claim.more for claim in store.claims] == [True, False]


async def test_prompts_reach_the_engine_one_after_the_other_in_the_order_of_the_queue(house: House) -> None:
    class SlowToTake(ScriptedPlace):
        under_way = 0
        most = 0

        async def submit(
            self, prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None = None
        ) -> Accepted | Rejected:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            for _ in range(5):
                await house.store.last_seq()  # long enough for another claim
            self.under_way -= 1
            answer = await super().submit(prompt_id, graph, extra_data)
            self.group.create_task(self.run_it(prompt_id))
            return answer

        async def run_it(self, prompt_id: PromptId) -> None:
            await self.start(prompt_id)
            await self.finish(prompt_id)

        @property
        def group(self) -> asyncio.TaskGroup:
            return house.group

    jobs = [await house.submit() for _ in range(6)]
    place = SlowToTake()
    house.drive(place)
    for job_id in jobs:
        await house.final(job_id)

    assert place.most == 1
    assert place.posted == [(await house.job(job_id)).prompt_id for job_id in jobs]


class SlowToAnswer(ScriptedPlace):
    """It answers the POST of the third prompt once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[PromptId] = []
        self.may_answer = asyncio.Event()

    async def submit(
        self, prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None = None
    ) -> Accepted | Rejected:
        self.begun.append(prompt_id)
        self._tell()
        if len(self.begun) == 3:
            await self.may_answer.wait()
        return await super().submit(prompt_id, graph, extra_data)

    async def with_a_third_under_way(self) -> None:
        """The first two ended by their events, the second while the third was being sent."""
        await self.until(lambda: len(self.posted) == 2)
        await end_by_events(self, self.posted[0])
        await self.until(lambda: len(self.begun) == 3)
        await end_by_events(self, self.posted[1])


async def test_a_job_is_claimed_with_an_end_while_the_one_before_it_is_being_sent(house: House) -> None:
    jobs = [await house.submit() for _ in range(4)]
    store, place = counted(house), SlowToAnswer()
    house.drive(place)
    await place.with_a_third_under_way()
    last = await house.until(jobs[3], lambda job: job.is_claimed)

    assert store.claimed_with_an_end == 2
    assert len(place.begun) == 3  # one POST at a time
    place.may_answer.set()
    await place.until(lambda: len(place.posted) == 4)
    assert place.posted[3] == last.prompt_id
    for number in (2, 3):
        await end_by_events(place, place.posted[number])
        assert (await house.final(jobs[number])).status is JobStatus.COMPLETED


async def test_what_waits_behind_a_post_can_be_cancelled(house: House) -> None:
    jobs = [await house.submit() for _ in range(4)]
    place = SlowToAnswer()
    house.drive(place)
    await place.with_a_third_under_way()
    await house.until(jobs[3], lambda job: job.is_claimed)
    await house.store.request_cancel(jobs[3], at=house.clock.now_ms(), reason=None)

    assert (await house.final(jobs[3])).status is JobStatus.CANCELLED
    place.may_answer.set()
    await place.until(lambda: len(place.posted) == 3)
    await end_by_events(place, place.posted[2])
    assert (await house.final(jobs[2])).status is JobStatus.COMPLETED
    assert len(place.begun) == 3


async def test_a_prompt_that_is_over_makes_room_for_the_next_before_it_is_looked_up(house: House) -> None:
    class SlowToTell(ScriptedPlace):
        asked = asyncio.Event()

        async def lookup(self, prompt_ids: Sequence[PromptId]) -> Mapping[PromptId, PromptView]:
            await self.asked.wait()
            return await super().lookup(prompt_ids)

    house.settings = house.settings.model_copy(update={"pipeline_depth": 1})
    first, second = await house.submit(), await house.submit()
    place = SlowToTell()
    house.drive(place)
    await place.until(lambda: len(place.posted) == 1)
    await place.start(place.posted[0])
    await place.finish(place.posted[0])

    await place.until(lambda: len(place.posted) == 2)

    assert not (await house.job(first)).is_final
    place.asked.set()
    assert (await house.final(first)).status is JobStatus.COMPLETED
    await place.start(place.posted[1])
    await place.finish(place.posted[1])
    assert (await house.final(second)).status is JobStatus.COMPLETED


async def test_what_a_tenure_has_learnt_is_kept_when_it_ends(house: House, place: ScriptedPlace) -> None:
    _, driving = house.drive(place)
    await run(house, place, 1)
    assert await house.store.node_durations(["EmptyImage"]) == {}

    driving.cancel()
    await asyncio.wait([driving])

    assert "EmptyImage" in await house.store.node_durations(["EmptyImage"])


async def _claimed(store: CountingStore, count: int) -> list[Claim]:
    found = [claim for claim in store.claims if claim is not None]
    assert len(found) == count
    return found


async def test_a_job_of_another_lane_is_not_looked_for(house: House, place: ScriptedPlace) -> None:
    store = counted(house)
    driver, _ = house.drive(place)
    async with asyncio.timeout(20):
        while not store.claims:
            await asyncio.sleep(0)
    tenure = driver._tenure
    assert tenure is not None
    for lane, may_have_work in (("salad", False), ("local", True)):
        driver.hear(StoredEvent(seq=1, event=queued_event(lane=lane)))
        assert tenure._ledger.may_have_work is may_have_work
