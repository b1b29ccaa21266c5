"""One client that follows workflows: what it follows, how far it is, and when its stream has to end.

Events are written straight to its connection. While a replay is sent they wait here, so the replay ends
exactly where they begin. A client that leaves too much unread is cut off; it resumes where it was.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Sequence

import structlog
from aiohttp import web

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import JobId
from comfy_mcp.operations.context import require_right
from http_sidecar.app_state import CALLER
from http_sidecar.bounds import BOUNDS
from http_sidecar.door.open_streams import OPEN_STREAMS, StreamKind
from http_sidecar.door.revocation import REVOCATIONS
from http_sidecar.door.slow_clients import ClientTooSlow, write_now, write_within
from http_sidecar.streams.live import LIVE, Encode, End, News
from http_sidecar.streams.messages import EVERY

log = structlog.get_logger(__name__)


def require_reader(request: web.Request) -> None:
    """Raises Denied for a caller that may not read."""
    require_right(request[CALLER], Right.READ, "A stream")


def job_of(wanted: str) -> JobId | None:
    """None: every job."""
    return None if wanted == EVERY else JobId(wanted)


class Ended(Exception):
    """Nothing more can be sent: the stream has to end, or its client is gone."""


class Stream(ABC):
    """`ended` says why the server ends it; None as long as it does not."""

    def __init__(self, request: web.Request, kind: StreamKind, encode: Encode) -> None:
        self.caller = request[CALLER]
        self.ended: End | None = None
        self._kind = kind
        self._encode = encode
        self._transport = request.transport
        self._bounds = request.app[BOUNDS]
        self._streams = request.app[OPEN_STREAMS]
        self._live = request.app[LIVE]
        self._revocations = request.app[REVOCATIONS]
        self._floors: dict[str, int] = {}
        """What it follows → the position up to which its client has that."""
        self._position: int | None = None
        self._held: deque[News] | None = None
        self._limit: asyncio.Timeout | None = None

    @property
    def position(self) -> int:
        """What it follows has been written up to there. It stays while a replay is sent, and at the end."""
        return self._live.position_of(self) if self._position is None else self._position

    @abstractmethod
    async def _send(self, stored: StoredEvent, text: str) -> None:
        """Write a message, and wait while the client leaves too much unread. Raises Ended."""

    @abstractmethod
    def _workflow_ended(self, job_id: JobId) -> None:
        """Its last message has been written."""

    # ------------------------------------------------------------------ what Live calls

    def offer(self, news: News) -> None:
        """Take what happens, at once."""
        if self.ended is not None or not self._wants(news.stored):
            return
        if self._held is not None:
            self._held.append(news)
            if len(self._held) > self._bounds.stream_events:
                self.end(End.SLOW)
        else:
            try:
                written = write_now(self._transport, news.frame(self._encode), self._bounds.stream_bytes)
            except ClientTooSlow:
                self.end(End.SLOW)
            else:
                if written:
                    self._written(news.stored)

    def end(self, why: End) -> None:
        """End the stream. On shutdown a replay that is under way is sent to its end first."""
        if self.ended is not None:
            return
        self._position, self.ended = self.position, why
        if why is End.SLOW:
            self._streams.was_slow(self._kind)
            log.info("stream_closed", reason="slow_consumer", client=self.caller.client)
        if self._held is None or why is not End.SHUTTING_DOWN:
            self._interrupt()

    # ------------------------------------------------------------------ what the client's task calls

    @contextlib.asynccontextmanager
    async def attached(self) -> AsyncIterator[None]:
        """Serve the client inside: it is left when the stream has to end, or the client is gone."""
        limit = asyncio.timeout(None if self.ended is None else 0)
        with (
            self._live.attached(self),
            self._revocations.watched(self.caller, lambda: self.end(End.REVOKED)),
        ):
            try:
                async with limit as self._limit:
                    yield
            except Ended:
                pass
            except TimeoutError:
                if not limit.expired():
                    raise  # another's
            finally:
                self._limit = None
                for wanted in list(self._floors):
                    self._unfollow(wanted)

    @contextlib.asynccontextmanager
    async def _following(self, wanted: Sequence[str], floor: int | None) -> AsyncIterator[int]:
        """Follow what is `wanted` from a position on, which is yielded: inside, its past up to there can be
        sent.

        `floor`: what the client has already; None is that position, or what it had before. When the past
        can't be read, nothing has been asked for. Raises Ended.
        """
        before, position = {each: self._floors.get(each) for each in wanted}, self.position
        for each, known in before.items():
            if known is None:
                self._live.follow(self, each)
            self._floors[each] = floor if floor is not None else position if known is None else known
        self._position, self._held = position, deque()
        try:
            yield position
        except StoreFault:
            for each, known in before.items():
                if known is None:
                    self._unfollow(each)
                else:
                    self._floors[each] = known
            await self._release()
            raise
        await self._release()

    async def _replay(self, wanted: Sequence[str], since: int, until: int) -> None:
        """What came after `since`, then how far it is now. Raises Ended, StoreFault."""
        if len(wanted) == 1:
            async for stored in self._past(wanted[0], since, until):
                await self._send_past(stored)
        else:  # of a batch, which is small: in the order of the log, so that a client can resume
            past = [stored for each in wanted async for stored in self._past(each, since, until)]
            for stored in sorted(past, key=lambda stored: stored.seq):
                await self._send_past(stored)
        held = [news.stored for news in self._held or ()]
        for each in wanted:
            for stored in await self._live.steps(self, until, job_of(each), held):
                await self._send_past(stored)

    async def _past(self, wanted: str, since: int, until: int) -> AsyncIterator[StoredEvent]:
        while page := await self._live.log.past(self.caller, since, until, job_of(wanted)):
            for stored in page:
                yield stored
            since = page[-1].seq

    async def _send_past(self, stored: StoredEvent) -> None:
        text = await self._live.texts.past_text(stored)
        if text is not None:
            await self._send(stored, text)
            self._written(stored)

    async def _drained(self, write: Awaitable[object]) -> None:
        """Raises Ended for a client that is gone, or reads nothing for too long."""
        try:
            await write_within(self._bounds.stream_send_timeout_s, write)
        except ClientTooSlow:
            self.end(End.SLOW)
            raise Ended from None
        except ConnectionError:
            raise Ended from None

    def _unfollow(self, wanted: str) -> None:
        if self._floors.pop(wanted, None) is not None:
            self._live.unfollow(self, wanted)

    def _wants(self, stored: StoredEvent) -> bool:
        floors = [
            floor for key in (stored.event.job_id, EVERY) if (floor := self._floors.get(key)) is not None
        ]
        return bool(floors) and (stored.volatile or min(floors) < stored.seq)

    def _written(self, stored: StoredEvent) -> None:
        if stored.is_final:
            self._workflow_ended(stored.event.job_id)

    async def _release(self) -> None:
        """Send what has waited; from now on it is written at once. Raises Ended."""
        while self._held:
            news = self._held.popleft()
            await self._send(news.stored, news.text)
            self._written(news.stored)
        self._held = None
        if self.ended is not None:
            raise Ended
        self._position = None

    def _interrupt(self) -> None:
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())
