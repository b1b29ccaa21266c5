"""Server-Sent Events: GET /v1/comfyui/workflow/{id}/events tells one workflow to its end, and
GET /v1/comfyui/events all that the caller may see, without end.

Each message's `id` is its `seq`; a client that comes again with Last-Event-ID gets what it missed, then the
rest. Own code and no library: docs/decisions/0002-dependencies.md.
"""

import asyncio
import contextlib
from http import HTTPStatus

import structlog
from aiohttp import web

from comfy_mcp.domain.errors import InvalidInput, NotFound, StoreFault
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import JobId
from comfy_mcp.operations.feed import Reader
from http_sidecar.app_state import BRIDGE, CALLER, DRAIN, SETTINGS
from http_sidecar.bounds import BOUNDS
from http_sidecar.door.revocation import REVOCATIONS
from http_sidecar.door.slow_clients import ClientTooSlow, write_within
from http_sidecar.drain import Drain
from http_sidecar.routes import V1
from http_sidecar.streams.event_texts import EventTexts
from http_sidecar.streams.messages import MAX_SEQ, StreamClosed, wire_text
from http_sidecar.streams.open_streams import OPEN_STREAMS, require_reader

log = structlog.get_logger(__name__)

PATH = f"{V1}/workflow/{{workflowId}}/events"
ALL_PATH = f"{V1}/events"
RETRY_MS = 2_000
"""When a browser connects again by itself."""


async def events(request: web.Request) -> web.StreamResponse:
    """Raises Denied, NotFound, InvalidInput, LimitExceeded, StoreFault. 204, which makes a browser stop
    asking, when the client has seen the end already."""
    feed = request.app[BRIDGE].feed
    require_reader(request)
    since = _place_of(request) or 0
    job_id = JobId(request.match_info["workflowId"])
    if not await feed.may_follow(job_id, request[CALLER]):
        raise NotFound(f"Workflow {job_id[:64]} not found.", next_step="Use an id that a submit returned.")
    if await feed.is_over(job_id, since):
        return web.Response(status=HTTPStatus.NO_CONTENT)
    return await _serve(request, since, job_id)


async def all_events(request: web.Request) -> web.StreamResponse:
    """From the client's place on, or from now on where it shows none. The first block is an `id` alone: a
    client that is cut off before the first message has a place to come back to.

    Raises Denied, InvalidInput, LimitExceeded, StoreFault.
    """
    require_reader(request)
    return await _serve(request, _place_of(request), None)


def _place_of(request: web.Request) -> int | None:
    """Raises InvalidInput."""
    shown = request.headers.get("Last-Event-ID") or request.query.get("lastEventId")
    return parse_event_id(shown) if shown else None


async def _serve(request: web.Request, since: int | None, job_id: JobId | None) -> web.StreamResponse:
    app = request.app
    streams, caller = app[OPEN_STREAMS], request[CALLER]
    with (
        streams.entered("sse"),
        app[BRIDGE].feed.follow(caller, job_id=job_id, buffer=app[BOUNDS].stream_events) as reader,
        app[REVOCATIONS].watched(caller) as revoked,
    ):
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # nginx would hold the events back
            }
        )
        await response.prepare(request)
        stream = _Stream(
            response,
            reader,
            streams.texts,
            job_id,
            heartbeat_s=app[SETTINGS].stream_heartbeat_s,
            limit_s=app[BOUNDS].stream_send_timeout_s,
        )
        await stream.serve(since, app[DRAIN], revoked)
        if stream.slow:
            streams.was_slow("sse")
            if request.transport is not None:
                request.transport.abort()  # a close would wait for the client to read
    return response


_COME_AGAIN = "Connect again with Last-Event-ID."
_WHAT_NEXT = {"unauthenticated": "The key has been revoked. Connect again with another one."}


class _Over(Exception):
    """The stream ends here."""


class _Stream:
    def __init__(
        self,
        response: web.StreamResponse,
        reader: Reader,
        texts: EventTexts,
        job_id: JobId | None,
        *,
        heartbeat_s: float,
        limit_s: float,
    ) -> None:
        self._response = response
        self._reader = reader
        self._texts = texts
        self._heartbeat_s = heartbeat_s
        self._limit_s = limit_s
        self._job_id = job_id
        self._revoked = False
        self.slow = False

    async def serve(self, since: int | None, drain: Drain, revoked: asyncio.Event) -> None:
        """Until the workflow has ended, the client is gone or slow, its key is `revoked`, or this process
        drains."""
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(self._end_with(drain))
            admitted = tasks.create_task(self._end_when(revoked))
            try:
                await self._tell_all(since)
            except _Over:
                pass
            except StoreFault as fault:
                log.warning("stream_failed", code=fault.code.value, job_id=self._job_id)
                await self._say_closed("store_unavailable")
            finally:
                draining.cancel()
                admitted.cancel()

    async def _end_with(self, drain: Drain) -> None:
        await drain.wait()
        self._reader.end()

    async def _end_when(self, revoked: asyncio.Event) -> None:
        await revoked.wait()
        self._revoked = True
        self._reader.end()

    async def _tell_all(self, shown: int | None) -> None:
        """Raises _Over, StoreFault."""
        await self._write(f"retry: {RETRY_MS}\n\n")
        since = floor = await self._start(shown)
        while page := await self._reader.past(since, self._job_id):
            for stored in page:
                await self._tell(stored, await self._texts.past_text(stored))
            since = page[-1].seq
        for stored in await self._reader.steps(self._job_id):
            await self._tell(stored, await self._texts.past_text(stored))
        while True:
            for stored in await self._news():
                # A process whose hub lags behind may bring what the client has seen elsewhere.
                fresh = stored.seq > floor or stored.volatile
                await self._tell(stored, await self._texts.text(stored) if fresh else None)
                self._reader.passed(stored)

    async def _start(self, shown: int | None) -> int:
        """A place that the log does not know means all of a single workflow, and from now on otherwise."""
        if shown is not None and await self._reader.known(shown):
            return shown
        if self._job_id is not None:
            return 0
        await self._write(f"id: {self._reader.cursor}\n\n")
        return self._reader.cursor

    async def _news(self) -> list[StoredEvent]:
        while True:
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    news = await self._reader.news()
            except TimeoutError:
                await self._write(": alive\n\n")
                continue
            if not news and self._reader.ended:
                await self._say_closed("unauthenticated" if self._revoked else "shutting_down")
                raise _Over
            return news

    async def _tell(self, stored: StoredEvent, text: str | None) -> None:
        if self._revoked:  # what waited is not for the client any more, and a replay may be long
            await self._say_closed("unauthenticated")
            raise _Over
        if text is not None:
            fell_behind = self._reader.overflowed
            place = "" if stored.volatile else f"id: {stored.seq}\n"
            await self._write(f"{place}data: {text}\n\n")
            if self._reader.overflowed and not fell_behind:
                raise self._slow()
        if stored.is_final and self._job_id is not None:
            raise _Over

    async def _say_closed(self, code: str) -> None:
        """Without an id: the client's place stays where it is."""
        message = StreamClosed.model_validate(
            {"seq": self._reader.cursor, "code": code, "message": _WHAT_NEXT.get(code, _COME_AGAIN)}
        )
        with contextlib.suppress(_Over):
            await self._write(f"data: {wire_text(message)}\n\n")

    async def _write(self, text: str) -> None:
        try:
            await write_within(self._limit_s, self._response.write(text.encode()))
        except ClientTooSlow:
            raise self._slow() from None
        except ConnectionError:
            raise _Over from None

    def _slow(self) -> _Over:
        self.slow = True
        log.info("stream_closed", reason="slow_consumer", job_id=self._job_id)
        return _Over()


def parse_event_id(shown: str) -> int:
    """Browsers send it as a header when they come again; others may in the query. Raises InvalidInput."""
    if not (shown.isascii() and shown.isdigit() and len(shown) <= 19 and int(shown) <= MAX_SEQ):
        raise InvalidInput(
            "Last-Event-ID must be the number of an event.",
            next_step="Send the last `id:` that you received.",
        )
    return int(shown)
