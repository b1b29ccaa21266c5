"""Each event goes to everybody who follows it, whoever begins or ends meanwhile."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.access import ALL_RIGHTS, DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import CancelRequested, JobEvent, JobProgressed, JobStarted, StoredEvent
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.operations.context import Caller
from http_sidecar.drain import Drain
from http_sidecar.streams import live as module
from http_sidecar.streams.live import End, Live, News
from http_sidecar.streams.messages import EVERY

OWNERS = {"a": "alice", "b": "bob"}
ROOT = Caller(client=ClientId("root"), surface="test", rights=ALL_RIGHTS)


def caller(name: str) -> Caller:
    return Caller(client=ClientId(name), surface="test", rights=DEFAULT_KEY_RIGHTS)


class FakeLog:
    """The feed, its one reader, and the texts: everything that Live asks is answered a little later."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.cursor = 0
        self.ended = False
        self.fault: Exception | None = None
        self.texts_made = 0
        self._come: asyncio.Queue[list[StoredEvent]] = asyncio.Queue()

    @contextlib.contextmanager
    def follow(self, _caller: Caller, *, buffer: int) -> Iterator["FakeLog"]:
        assert buffer > 0
        yield self

    def commit(self, event: JobEvent) -> None:
        volatile = isinstance(event, JobProgressed)
        seq = len(self.events) + (not volatile)
        self.events.append(StoredEvent(seq=max(seq, 1), event=event, volatile=volatile))
        self._come.put_nowait(self.events[-1:])

    async def news(self) -> list[StoredEvent]:
        news = await self._come.get()
        if self.fault is not None and not news:
            fault, self.fault = self.fault, None
            raise fault
        return news

    def fail(self, fault: Exception) -> None:
        self.fault = fault
        self._come.put_nowait([])

    def passed(self, stored: StoredEvent) -> None:
        self.cursor = stored.seq

    def end(self) -> None:
        self.ended = True
        self._come.put_nowait([])

    async def steps(self, _caller: Caller, _until: int, _job: Any, *, besides: Any) -> list[StoredEvent]:
        return [*besides]

    async def owner(self, job_id: JobId) -> ClientId | None:
        await asyncio.sleep(0)
        return ClientId(OWNERS[job_id]) if job_id in OWNERS else None

    async def text(self, stored: StoredEvent) -> str | None:
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        self.texts_made += 1
        return None if isinstance(stored.event, CancelRequested) else f"{stored.event.job_id}{stored.seq}"


@dataclass(eq=False)
class Listener:
    caller: Caller
    offered: list[int] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    place: int = 0

    def offer(self, news: News) -> None:
        self.offered.append(news.stored.seq)
        self.frames.append(news.frame(encoded))

    def end(self, why: End) -> None:
        self.ends.append(why)


def encoded(_stored: StoredEvent, text: str) -> bytes:
    return text.encode()


def started(job: str) -> JobStarted:
    return JobStarted(job_id=JobId(job), at=1, attempt=1)


def live_over(log: FakeLog) -> Live:
    typed: Any = log
    return Live(typed, typed, ROOT, buffer=9)


@contextlib.asynccontextmanager
async def running(log: FakeLog, drain: Drain | None = None) -> AsyncIterator[Live]:
    live = live_over(log)
    async with live.running(drain or Drain()):
        yield live


async def settle() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


async def test_who_follows_what_and_whose() -> None:
    log = FakeLog()
    async with running(log) as live:
        listeners = {
            "alice a": (Listener(caller("alice")), "a"),
            "alice all": (Listener(caller("alice")), EVERY),
            "bob all": (Listener(caller("bob")), EVERY),
            "root all": (Listener(ROOT), EVERY),
        }
        for listener, wanted in listeners.values():
            live.follow(listener, wanted)
        for job in ("a", "b", "nobody's any more"):
            log.commit(started(job))
        log.commit(CancelRequested(job_id=JobId("a"), at=1))
        await settle()
        assert {name: listener.offered for name, (listener, _) in listeners.items()} == {
            "alice a": [1], "alice all": [1], "bob all": [2], "root all": [1, 2, 3],
        }  # fmt: skip
        assert listeners["alice a"][0].frames[0] is listeners["root all"][0].frames[0], "encoded once"
        for listener, wanted in listeners.values():
            live.unfollow(listener, wanted)
        made = log.texts_made
        log.commit(started("a"))
        await settle()
        assert (log.texts_made, log.cursor) == (made, 5), "nobody follows, so nothing is made"


@given(
    st.lists(
        st.sampled_from(["commit a", "commit b", "step a", "join a", "join *", "leave", "turn"]), max_size=60
    )
)
async def test_whoever_joins_has_all_that_comes_after_its_place_once_and_in_order(steps: list[str]) -> None:
    log = FakeLog()
    listening: list[tuple[Listener, str]] = []
    left: list[tuple[Listener, str, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AT_ONCE", 1)
        async with running(log) as live:
            for step in steps:
                match step.split():
                    case ["commit", job]:
                        log.commit(started(job))
                    case ["step", job]:
                        log.commit(JobProgressed(job_id=JobId(job), at=1, attempt=1, progress=0.1))
                    case ["join", wanted]:
                        listener = Listener(caller("alice"))
                        listener.place = live.position_of(listener)
                        live.follow(listener, wanted)
                        listening.append((listener, wanted))
                    case ["leave"] if listening:
                        gone, wanted = listening.pop(0)
                        left.append((gone, wanted, live.position_of(gone)))
                        live.unfollow(gone, wanted)
                    case _:
                        await asyncio.sleep(0)
            await settle()
    for listener, wanted in listening:
        after = [each.seq for each in seen(log, wanted) if not each.volatile and each.seq > listener.place]
        durable = [seq for seq in listener.offered if seq in after]
        assert sorted(set(durable)) == after
        assert listener.offered == sorted(listener.offered)
    for listener, wanted, place in left:
        had = {
            each.seq for each in seen(log, wanted) if not each.volatile and listener.place < each.seq <= place
        }
        assert had <= set(listener.offered), "its place says that it has them"


def seen(log: FakeLog, wanted: str) -> list[StoredEvent]:
    """By alice, who owns the job `a`."""
    return [each for each in log.events if each.event.job_id == "a" and wanted in {"a", EVERY}]


async def test_an_event_that_is_being_handed_out_is_not_repeated_as_the_last_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    log = FakeLog()
    first, second = Listener(ROOT), Listener(ROOT)
    async with running(log) as live:
        live.follow(first, "a")
        live.follow(second, "a")
        log.commit(started("a"))
        await settle()
        log.commit(JobProgressed(job_id=JobId("a"), at=1, attempt=1, progress=0.5))
        while len(first.offered) < 2:
            await asyncio.sleep(0)
        assert await live.steps(first, 1, None, ()) == []
        assert await live.steps(second, 1, None, ()) == log.events[1:], (
            "left out of the replay: it is on its way"
        )


@pytest.mark.parametrize(
    ("fault", "end"),
    [(StoreFault("full", next_step="Make room."), End.STORE_FAULT), (RuntimeError("secret"), End.INTERNAL)],
)
async def test_an_event_that_cannot_be_told_ends_the_streams_that_should_have_it(
    fault: Exception, end: End
) -> None:
    log = FakeLog()
    concerned, other, later = Listener(ROOT), Listener(ROOT), Listener(ROOT)
    async with running(log) as live:
        live.follow(concerned, "a")
        live.follow(other, "b")
        log.fault = fault
        log.commit(started("a"))
        await settle()
        assert (concerned.ends, other.ends) == ([end], [])
        log.fault = None
        live.follow(later, "a")
        log.commit(started("a"))
        await settle()
        assert (later.offered, later.ends) == ([2], [])


@pytest.mark.parametrize(
    ("fault", "end"),
    [(StoreFault("locked", next_step="Wait."), End.STORE_FAULT), (RuntimeError("a defect"), End.INTERNAL)],
)
async def test_a_log_that_cannot_be_read_ends_all_and_is_read_again(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, end: End
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0)
    log = FakeLog()
    listener = Listener(ROOT)
    async with running(log) as live:
        with live.attached(listener):
            log.fail(fault)
            await settle()
            assert listener.ends == [end]
            live.follow(listener, EVERY)
            log.commit(started("a"))
            await settle()
            assert listener.offered == [1]


async def test_a_process_that_goes_offers_what_is_left_and_ends_old_and_new_streams() -> None:
    log, drain = FakeLog(), Drain()
    old, new = Listener(ROOT), Listener(ROOT)
    async with running(log, drain) as live:
        with live.attached(old):
            live.follow(old, EVERY)
            log.commit(started("a"))
            drain.begin()
            await settle()
            assert (old.offered, old.ends) == ([1], [End.SHUTTING_DOWN])
            with live.attached(new):
                assert new.ends == [End.SHUTTING_DOWN]
                assert live.streams == 2
