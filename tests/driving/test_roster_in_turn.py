"""Of many engines one looks for a new job, not all of them: looking is a transaction of the store."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from comfy_mcp.domain.events import (
    CancelRequested,
    JobClaimed,
    JobEvent,
    JobRequeued,
    JobWaiting,
    StoredEvent,
)
from comfy_mcp.domain.ids import EngineId, JobId, PromptId
from comfy_mcp.domain.needs import Needs, Wish
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.vram import WaitingFor
from comfy_mcp.driving.alarm import Alarm
from comfy_mcp.driving.driver import Driver
from comfy_mcp.driving.roster import Roster
from comfy_mcp.places.pool import Pool
from comfy_mcp.places.protocol import Place
from comfy_mcp.settings import load_settings
from tests.driving.conftest import House
from tests.support.jobs import queued_event
from tests.support.scripted_place import ScriptedPlace

COUNT = 12
A_FEW = 3
"""The job's own look, and those that are made now and then on a slow machine."""

ANY = Needs(node_classes=("EmptyImage", "SaveImage"), models=(), shape="s")


class Idle(ScriptedPlace):
    labels = frozenset[str]()
    asleep = False
    nodes_now = ObjectInfo.parse({})

    async def close(self) -> None:
        """There is nothing to close."""


class Hall:
    """Idle engines behind one roster, and how often one of them asked the store for a job."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = 0
        self.drivers: Sequence[Driver] = ()
        self.places = {name: Idle(name) for name in (f"e{number}" for number in range(COUNT))}
        changed = asyncio.Event()
        for place in self.places.values():
            place.changed = changed
        claim_next = house.store.claim_next

        async def counted(*arguments: Any, **options: Any) -> Any:
            claim = await claim_next(*arguments, **options)
            self.looks += 1
            changed.set()
            return claim

        monkeypatch.setattr(house.store, "claim_next", counted)

    @property
    def posted(self) -> dict[str, int]:
        """Jobs that each engine got."""
        return {name: len(place.posted) for name, place in self.places.items() if place.posted}

    async def got(self, count: int) -> dict[str, int]:
        await self.places["e0"].until(lambda: sum(self.posted.values()) >= count)
        return self.posted


@pytest.fixture
async def hall(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hall]:
    hall = Hall(house, monkeypatch)
    file = tmp_path / "engines.toml"
    file.write_text(
        "".join(f'[{name}]\nurl = "http://127.0.0.1:9/{name}"\n' for name in hall.places), encoding="utf-8"
    )
    house.settings = load_settings(state_dir=tmp_path / "state", engines_file=file, lease_ttl_s=30.0)
    roster = Roster(
        Pool(), house.means(), lambda each: cast("Place", hall.places[each.id]), holder="me", drive=True
    )
    hall.drivers = roster.drivers
    task = house.group.create_task(roster.run(house.hub))
    try:
        await hall.places["e0"].until(lambda: hall.looks >= COUNT)  # each has looked at the empty queue
        hall.looks = 0
        yield hall
    finally:
        task.cancel()


async def test_a_job_is_looked_for_once(house: House, hall: Hall) -> None:
    await house.submit(needs=ANY)
    assert list((await hall.got(1)).values()) == [1]
    assert hall.looks <= A_FEW


async def test_an_engine_that_does_not_take_it_wakes_the_next(house: House, hall: Hall) -> None:
    last = EngineId(f"e{COUNT - 1}")
    wish = Needs(node_classes=ANY.node_classes, models=(), shape="s", wish=Wish(engine=last))
    await house.submit(needs=wish)
    assert await hall.got(1) == {last: 1}
    assert hall.looks <= COUNT + A_FEW


async def test_engines_that_were_not_woken_do_not_look_later(house: House, hall: Hall) -> None:
    await house.submit(needs=ANY)
    await hall.got(1)
    for driver in hall.drivers:  # each has something to do
        assert driver._tenure is not None
        driver._tenure._alarm.ring()
    await house.submit(needs=ANY)
    await hall.got(2)
    assert hall.looks <= 2 * A_FEW


async def test_a_cancel_wakes_only_the_engine_that_has_the_job(
    house: House, hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await house.submit(needs=ANY)
    await hall.got(1)
    rings: list[None] = []
    for job_id, woken in ((job, 1), (JobId("another"), 0)):
        rings.clear()
        with monkeypatch.context() as patch:
            patch.setattr(Alarm, "ring", lambda _: rings.append(None))
            for driver in hall.drivers:
                driver.hear(StoredEvent(seq=0, event=CancelRequested(job_id=job_id, at=0)))
        assert len(rings) == woken


async def test_busy_engines_do_not_look_and_take_what_waits_at_their_end(house: House, hall: Hall) -> None:
    for _ in range(COUNT):
        await house.submit(needs=ANY)
    assert await hall.got(COUNT) == dict.fromkeys(hall.places, 1)
    hall.looks = 0
    for _ in range(COUNT):
        await house.submit(needs=ANY)
    first = hall.places["e3"]
    await first.start(first.posted[0])
    await first.finish(first.posted[0])
    assert await hall.got(COUNT + 1) == {**dict.fromkeys(hall.places, 1), "e3": 2}
    assert hall.looks <= A_FEW


QUEUED, OTHER = queued_event(JobId("a")), queued_event(JobId("b"))
CLAIMED = JobClaimed(job_id=JobId("a"), at=1, attempt=1, engine=EngineId("e"), prompt_id=PromptId("p"))
REQUEUED = JobRequeued(job_id=JobId("a"), at=2, attempt=1, reason="lost")
HELD = WaitingFor(since=1, need_bytes=1, engines=())


@pytest.mark.parametrize(
    ("at_once", "looks"),
    [
        ([QUEUED], 1),
        ([queued_event(lane="salad")], 0),
        ([QUEUED, CLAIMED], 0),
        ([QUEUED, OTHER], 1),
        ([QUEUED, CLAIMED, OTHER], 1),
        ([CLAIMED], 0),
        ([QUEUED, CLAIMED, REQUEUED], 1),
        ([JobWaiting(job_id=JobId("a"), at=1, waiting_for=None)], 1),
        ([JobWaiting(job_id=JobId("a"), at=1, waiting_for=HELD)], 0),
    ],
)
async def test_what_was_claimed_as_it_was_written_is_not_looked_for(
    house: House, monkeypatch: pytest.MonkeyPatch, at_once: list[JobEvent], looks: int
) -> None:
    roster = Roster(Pool(), house.means(), lambda _: cast("Place", Idle("e")), holder="me", drive=True)
    looked: list[None] = []
    monkeypatch.setattr(roster, "work_arrived", lambda: looked.append(None))
    for event in at_once:
        roster._hear(StoredEvent(seq=0, event=event))
    await asyncio.sleep(0)
    assert len(looked) == looks
