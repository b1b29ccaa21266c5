"""Server-Sent Events: GET /v1/comfyui/workflow/{id}/events follows one workflow or batch to its end, and
GET /v1/comfyui/events all that the caller may see, without end.

Each message's `id` is its `seq`; a client that reconnects with Last-Event-ID gets what it missed, then the
rest. Own code and no library: docs/decisions/0002-dependencies.md.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal

import structlog
from aiohttp import HttpVersion11, web

from comfy_mcp.domain.errors import InvalidInput, NotFound, StoreFault
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import JobId
from http_sidecar.app_state import BRIDGE, CALLER
from http_sidecar.door.open_streams import server_sent_events
from http_sidecar.routes import V1
from http_sidecar.streams.live import End
from http_sidecar.streams.messages import EVERY, MAX_SEQ, StreamClosed, wire_text
from http_sidecar.streams.stream import Ended, Stream, require_reader

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
    since = _position_of(request) or 0
    given = request.match_info["workflowId"]
    jobs = await feed.jobs_of(given, request[CALLER])
    if not jobs:
        raise NotFound(f"Workflow {given[:64]} not found.", next_step="Use an id that a submit returned.")
    left = [job_id for job_id in jobs if not await feed.is_over(job_id, since)]
    if not left:
        return web.Response(status=HTTPStatus.NO_CONTENT)
    return await _serve(request, since, left)


async def all_events(request: web.Request) -> web.StreamResponse:
    """From the client's position on, or from now on where it shows none. The first block is an `id` alone: a
    client that is cut off before the first message has a position to come back to.

    Raises Denied, InvalidInput, LimitExceeded, StoreFault.
    """
    require_reader(request)
    return await _serve(request, _position_of(request), ())


def _position_of(request: web.Request) -> int | None:
    """Raises InvalidInput."""
    shown = request.headers.get("Last-Event-ID") or request.query.get("lastEventId")
    return parse_event_id(shown) if shown else None


async def _serve(request: web.Request, since: int | None, jobs: Sequence[JobId]) -> web.StreamResponse:
    """Of no jobs: of all."""
    async with server_sent_events(request) as response:
        stream = _Stream(request, response, jobs)
        await stream.serve(since)
        if stream.ended in {End.SLOW, End.INTERNAL} and request.transport is not None:
            request.transport.abort()  # a close would wait for the client to read
    return response


Code = Literal["shutting_down", "store_unavailable", "unauthenticated"]

CLOSES: dict[End | None, tuple[Code, str]] = {
    End.SHUTTING_DOWN: ("shutting_down", "Connect again with Last-Event-ID."),
    End.STORE_FAULT: ("store_unavailable", "Connect again with Last-Event-ID."),
    End.REVOKED: ("unauthenticated", "The key has been revoked. Connect again with another one."),
}


def block_of(stored: StoredEvent, text: str) -> bytes:
    """A step of progress is not in the log, so it has no id to come back to."""
    position = "" if stored.volatile else f"id: {stored.seq}\n"
    return f"{position}data: {text}\n\n".encode()


def chunk_of(stored: StoredEvent, text: str) -> bytes:
    """The same as a chunk of the body (RFC 9112, 7.1): all bodies without a length are chunked."""
    block = block_of(stored, text)
    return b"%x\r\n%b\r\n" % (len(block), block)


class _Stream(Stream):
    """One client."""

    def __init__(self, request: web.Request, response: web.StreamResponse, jobs: Sequence[JobId]) -> None:
        super().__init__(request, "sse", chunk_of if request.version >= HttpVersion11 else block_of)
        self._response = response
        self._wanted: Sequence[str] = jobs or (EVERY,)
        self._open = set(jobs)
        self._heartbeat_s = self._bounds.stream_heartbeat_s

    async def serve(self, shown: int | None) -> None:
        """Until the workflow has ended, the client is gone or slow, its key is revoked, or this process
        drains. `shown`: the position that the client has reached."""
        try:
            async with self.attached():
                await self._follow(shown)
                while True:
                    await asyncio.sleep(self._heartbeat_s)
                    await self._write(b": alive\n\n")
        except StoreFault as fault:
            log.warning("stream_failed", code=fault.code.value, job_id=self._wanted[0])
            self.end(End.STORE_FAULT)
        if self.ended in CLOSES:
            code, message = CLOSES[self.ended]
            # Without an id: the client's position stays where it is.
            closed = StreamClosed(seq=self.position, code=code, message=message)
            with contextlib.suppress(Ended):
                await self._write(f"data: {wire_text(closed)}\n\n".encode())

    async def _follow(self, shown: int | None) -> None:
        """A position that the log does not know means all of a workflow or batch, and from now on otherwise.

        Raises Ended, StoreFault.
        """
        await self._write(f"retry: {RETRY_MS}\n\n".encode())
        known = shown is not None and await self._live.log.known(shown)
        since = shown if known else 0 if self._open else None
        async with self._following(self._wanted, since) as position:
            if since is None:
                await self._write(f"id: {position}\n\n".encode())
            await self._replay(self._wanted, position if since is None else since, position)

    async def _send(self, stored: StoredEvent, text: str) -> None:
        await self._write(block_of(stored, text))

    def _workflow_ended(self, job_id: JobId) -> None:
        if job_id in self._open:
            self._open.discard(job_id)
            if not self._open:
                self.end(End.COMPLETE)

    async def _write(self, data: bytes) -> None:
        await self._drained(self._response.write(data))


def parse_event_id(shown: str) -> int:
    """Browsers send it as a header when they come again; others may in the query. Raises InvalidInput."""
    if not (shown.isascii() and shown.isdigit() and len(shown) <= 19 and int(shown) <= MAX_SEQ):
        raise InvalidInput(
            "Last-Event-ID must be the number of an event.",
            next_step="Send the last `id:` that you received.",
        )
    return int(shown)
