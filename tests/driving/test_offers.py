"""A claim that was written, although what wrote it raised: its prompt is sent, by this tenure."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import JobEvent
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.driving.direct import DirectSubmits
from comfy_mcp.driving.ledger import STORE_RETRY_S
from comfy_mcp.store import ClaimOffer, Store, Submission
from tests.driving.conftest import House, posted
from tests.driving.spoiled import Defect
from tests.driving.test_containment_writes import tenures
from tests.driving.test_direct import driver_of, reserve
from tests.driving.test_thrift import end_by_events
from tests.support.scripted_place import ScriptedPlace

ANSWER_LOST = StoreFault("The connection was lost at the commit.", next_step="")


class Mute:
    """A store whose answers do not arrive: the method of that name writes, and raises these."""

    def __init__(self, store: Store, method: str, errors: Sequence[Exception]) -> None:
        self._store = store
        self._method = method
        self._errors = list(errors)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _lose(self, method: str, answer: object) -> None:
        claimed = answer[-1] if isinstance(answer, tuple) else answer
        if method == self._method and claimed is not None and self._errors:
            raise self._errors.pop(0)

    async def claim_next(self, *given: Any, **more: Any) -> Any:
        claim = await self._store.claim_next(*given, **more)
        self._lose("claim_next", claim)
        return claim

    async def record_and_claim(self, job_id: JobId, events: Sequence[JobEvent], **more: Any) -> Any:
        answer = await self._store.record_and_claim(job_id, events, **more)
        self._lose("record_and_claim", answer)
        return answer

    def add_and_claim_now(self, submission: Submission, offer: ClaimOffer | None) -> Any:
        answer = self._store.add_and_claim_now(submission, offer)
        self._lose("add_and_claim_now", answer)
        return answer

    async def add_and_claim(self, submission: Submission, offer: ClaimOffer | None) -> Any:
        answer = await self._store.add_and_claim(submission, offer)
        self._lose("add_and_claim", answer)
        return answer


@pytest.mark.parametrize("method", ["claim_next", "record_and_claim"])
@pytest.mark.parametrize("errors", [[Defect()], [ANSWER_LOST], [Defect(), ANSWER_LOST, Defect()]])
async def test_a_claim_that_nobody_heard_of_is_found_and_sent_once(
    house: House, place: ScriptedPlace, method: str, errors: list[Exception]
) -> None:
    jobs = [await house.submit() for _ in range(8)]
    store: Any = Mute(house.store, method, errors)
    house.store, real = store, house.store
    driver, _ = house.drive(place)
    house.store = real
    for number in range(len(jobs)):
        while len(place.posted) < min(number + 2, len(jobs)):  # one is sent while another runs
            house.ahead_s += STORE_RETRY_S
            driver.work_arrived()
            await asyncio.sleep(0)
        await end_by_events(place, place.posted[number])
    for job in jobs:
        assert (await house.final(job)).status is JobStatus.COMPLETED
        assert (await house.job(job)).attempt == 1
    assert len(place.posted) == len(set(place.posted)) == len(jobs)
    assert not store._errors
    assert await tenures(house) == 1


@pytest.mark.parametrize("method", ["add_and_claim_now", "add_and_claim"])
async def test_a_submit_that_raised_after_its_job_was_claimed_blocks_nothing(
    house: House, place: ScriptedPlace, method: str
) -> None:
    driver, _ = await driver_of(house, place)
    await house.store.forget_bridges()  # writes come in turn: the driver's first search for a job has ended
    mute: Any = Mute(house.store, method, [Defect()])
    if method == "add_and_claim":
        mute.add_and_claim_now = lambda *_given: None
    with pytest.raises(Defect):
        await DirectSubmits(house.group, mute).submit(*reserve(house, driver))
    await place.finish(await posted(place))
    after = await house.submit()
    await place.finish(await posted(place, 2))
    assert (await house.final(after)).status is JobStatus.COMPLETED
    assert await tenures(house) == 1
