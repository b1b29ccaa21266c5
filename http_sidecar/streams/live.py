"""One task hands each event to every stream that follows it: encoded once, written to each connection.

A task and a queue for each client cost several times what the write costs.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from enum import Enum, auto
from typing import Protocol

import structlog
from aiohttp import web

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.feed import Feed, Reader
from http_sidecar.drain import Drain
from http_sidecar.streams.event_texts import EventTexts
from http_sidecar.streams.messages import EVERY

log = structlog.get_logger(__name__)

AT_ONCE = 100
"""Connections that are written to before others on the event loop have their turn: about 2 ms."""

RETRY_S = 1.0
"""After the log could not be read."""

Encode = Callable[[StoredEvent, str], bytes]
"""An event and its message as they go over one kind of connection."""


class End(Enum):
    """Why the server ends a stream."""

    SLOW = auto()
    REVOKED = auto()
    SHUTTING_DOWN = auto()
    STORE_FAULT = auto()
    INTERNAL = auto()
    MISUSED = auto()
    COMPLETE = auto()
    """The one workflow that it followed has ended."""


class News:
    """An event that happens now. Its frames are made once for each kind of connection."""

    __slots__ = ("_frames", "stored", "text")

    def __init__(self, stored: StoredEvent, text: str) -> None:
        self.stored = stored
        self.text = text
        self._frames: dict[Encode, bytes] = {}

    def frame(self, encode: Encode) -> bytes:
        frame = self._frames.get(encode)
        if frame is None:
            frame = self._frames[encode] = encode(self.stored, self.text)
        return frame


class Follower(Protocol):
    """A stream, as this module sees it."""

    caller: Caller

    def offer(self, news: News) -> None:
        """Accept news at once. It must not raise."""

    def end(self, why: End) -> None:
        """End the stream; nothing when it has ended."""


class Live:
    """One per process."""

    def __init__(self, feed: Feed, texts: EventTexts, caller: Caller, *, buffer: int) -> None:
        """`caller` sees all. Events beyond `buffer` in one burst are read from the log again."""
        self.texts = texts
        self._feed = feed
        self._caller = caller
        self._buffer = buffer
        self._reader: Reader | None = None
        self._streams: set[Follower] = set()
        self._following: dict[str, dict[Follower, None]] = {}
        self._waiting: set[Follower] = set()
        self._current: StoredEvent | None = None
        self._before = 0
        self._ended = False

    @property
    def log(self) -> Reader:
        assert self._reader is not None
        return self._reader

    @property
    def streams(self) -> int:
        """Those that are attached."""
        return len(self._streams)

    def position_of(self, stream: Follower) -> int:
        """The position in the log up to which the stream has been offered what it follows."""
        return self._before if stream in self._waiting else self.log.cursor

    @contextlib.contextmanager
    def attached(self, stream: Follower) -> Iterator[None]:
        """The stream may follow while the context is open; `end` is called when it has to end."""
        self._streams.add(stream)
        if self._ended:
            stream.end(End.SHUTTING_DOWN)
        try:
            yield
        finally:
            self._streams.discard(stream)

    def follow(self, stream: Follower, wanted: str) -> None:
        """Offer it events of one job, or of EVERY job that its caller may see: those after `position_of`."""
        self._following.setdefault(wanted, {})[stream] = None

    def unfollow(self, stream: Follower, wanted: str) -> None:
        streams = self._following[wanted]
        del streams[stream]
        if not streams:
            del self._following[wanted]

    async def steps(
        self, stream: Follower, until: int, job_id: JobId | None, held: Iterable[StoredEvent]
    ) -> list[StoredEvent]:
        """The last progress of what runs, for the end of a replay, without what is or will be offered."""
        offered = [self._current] if self._current is not None and stream in self._waiting else []
        return await self.log.steps(stream.caller, until, job_id, besides=(*held, *offered))

    @contextlib.asynccontextmanager
    async def running(self, drain: Drain) -> AsyncIterator[None]:
        """Hand events out while the context is open. When the process drains: what is left, then the end."""
        with self._feed.follow(self._caller, buffer=self._buffer) as self._reader:
            async with asyncio.TaskGroup() as tasks:
                handing = tasks.create_task(self._run(), name="streams")
                draining = tasks.create_task(self._end_with(drain), name="streams-drain")
                yield
                handing.cancel()
                draining.cancel()

    async def _end_with(self, drain: Drain) -> None:
        await drain.wait()
        self.log.end()

    async def _run(self) -> None:
        while not self._ended:
            try:
                news = await self.log.news()
            except StoreFault as fault:
                log.warning("streams_failed", code=fault.code.value)
                end_all(self._streams, End.STORE_FAULT)
                await asyncio.sleep(RETRY_S)
                continue
            except Exception:
                log.exception("streams_failed")
                end_all(self._streams, End.INTERNAL)
                await asyncio.sleep(RETRY_S)
                continue
            for stored in news:
                await self._hand_out(stored)
            self._ended = self.log.ended and not news
        end_all(self._streams, End.SHUTTING_DOWN)

    async def _hand_out(self, stored: StoredEvent) -> None:
        """Whoever begins to follow while this waits has either the event offered or finds it in the log."""
        news, owner = None, None
        if self._candidates(stored):
            news, owner = await self._news(stored)
        self._before = self.log.cursor
        self.log.passed(stored)
        if news is None:
            return
        of_job = self._following.get(stored.event.job_id, {})
        followers = [
            stream for stream in self._candidates(stored) if stream in of_job or _sees(stream.caller, owner)
        ]
        self._current, self._waiting = stored, set(followers)
        for number, stream in enumerate(followers, start=1):
            stream.offer(news)
            self._waiting.discard(stream)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _news(self, stored: StoredEvent) -> tuple[News | None, ClientId | None]:
        """And whose job it is about. If that fails, the streams that should have it end."""
        job_id = stored.event.job_id
        try:
            text = await self.texts.text(stored)
            owner = await self._feed.owner(job_id)
        except StoreFault as fault:
            log.warning("streams_failed", code=fault.code.value, job_id=job_id)
            end_all(self._candidates(stored), End.STORE_FAULT)
        except Exception:
            log.exception("streams_failed", job_id=job_id)
            end_all(self._candidates(stored), End.INTERNAL)
        else:
            return None if text is None else News(stored, text), owner
        return None, None

    def _candidates(self, stored: StoredEvent) -> dict[Follower, None]:
        """Who follows the event's job, and who follows EVERY that its caller may see."""
        of_job, of_all = self._following.get(stored.event.job_id, {}), self._following.get(EVERY, {})
        return {**of_job, **of_all} if of_all else of_job


LIVE = web.AppKey("live", Live)


def _sees(caller: Caller, owner: ClientId | None) -> bool:
    """An owner that nobody knows any more is not the caller."""
    return caller.sees_all if owner is None else caller.may_see(owner)


def end_all(streams: Iterable[Follower], why: End) -> None:
    for stream in list(streams):
        stream.end(why)
