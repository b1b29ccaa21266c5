"""GET /api/v2/jobs/{id}/events: one job as Server-Sent Events, from its state now to its end.

Nothing is replayed: a client that connects again gets the state as it then is, and the rest.
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import Collection

import structlog
from aiohttp import web

from comfy_mcp.domain.errors import BridgeError, NotFound
from comfy_mcp.domain.events import JobProgressed, StoredEvent
from comfy_mcp.domain.ids import JobId
from comfy_mcp.operations.feed import Reader
from comfy_mcp.operations.shapes import PreviewResult
from http_sidecar.app_state import BRIDGE, CALLER, DRAIN
from http_sidecar.bounds import BOUNDS
from http_sidecar.comfy_api.calls import Sizes, call, output_json, state
from http_sidecar.comfy_api.shapes import TERMINAL, Json, progress, progress_of, status_of
from http_sidecar.door.open_streams import server_sent_events
from http_sidecar.door.revocation import REVOCATIONS
from http_sidecar.door.slow_clients import ClientTooSlow, write_within

log = structlog.get_logger(__name__)

BUFFER = 256
"""Events of one job that wait for a slow client. What is lost beyond that is in the next state."""

PREVIEW_S = 1.0
"""Between two previews of one stream: each is a picture, as text."""


async def stream(request: web.Request) -> web.StreamResponse:
    """Of a batch or of several ids: their state together.

    Raises NotFound, Denied, LimitExceeded, StoreFault.
    """
    result = await state(request, request.match_info["jobId"])
    several = frozenset(map(JobId, result.workflows))
    one = None if several else JobId(result.workflow_id)
    async with server_sent_events(request) as response:
        client = _Client(request, response, several)
        feed = request.app[BRIDGE].feed
        with (
            contextlib.suppress(ClientTooSlow, ConnectionError),
            feed.follow(request[CALLER], job_id=one, buffer=BUFFER) as reader,
            request.app[REVOCATIONS].watched(request[CALLER], reader.end),
        ):
            await _follow(client, reader)
    return response


async def _follow(client: "_Client", reader: Reader) -> None:
    """Until the job has ended, the key is revoked, or this process drains. Raises ClientTooSlow."""
    try:
        over = await client.send_state()
        while not over and not reader.ended:
            try:
                async with client.drain.ends(), asyncio.timeout(client.heartbeat_s):
                    news, lost = await reader.newest()
            except TimeoutError:
                if client.drain.begun:
                    return
                await client.send_sign_of_life()
                continue
            over = await client.send_news(news, lost=lost)
    except BridgeError as error:  # the client connects again, and then gets this as an answer
        log.warning("stream_failed", code=error.code.value)


class _Client:
    """`several`: the jobs that it follows, of all; none where it follows only one."""

    def __init__(
        self, request: web.Request, response: web.StreamResponse, several: Collection[JobId]
    ) -> None:
        self.drain = request.app[DRAIN]
        self.heartbeat_s = request.app[BOUNDS].stream_heartbeat_s
        self._request = request
        self._response = response
        self._several = several
        self._limit_s = request.app[BOUNDS].stream_send_timeout_s
        self._nodes = 0
        self._sent = ""
        self._outputs: set[str] = set()
        self._warnings: set[str] = set()
        self._preview = b""
        self._preview_due = float("-inf")

    async def send_state(self) -> bool:
        """The state as it now is, and whether it is final. Raises BridgeError, ClientTooSlow."""
        result = await state(self._request, self._request.match_info["jobId"])
        self._nodes = result.node_count
        status = status_of(result)
        for text in result.warnings:
            if text not in self._warnings:
                self._warnings.add(text)
                await self._send("log", {"level": "warning", "message": text})
        sizes = Sizes(self._request)
        for item in result.outputs:
            if item.output_id not in self._outputs:
                self._outputs.add(item.output_id)
                await self._send("output", await output_json(self._request, item, sizes))
        if result.status == "running":
            await self._send("progress", progress_of(result))
        said = {"status": status, "queue_position": result.queue_position}
        if (text := json.dumps(said)) != self._sent:
            self._sent = text
            await self._send("status", said)
        return status in TERMINAL

    async def send_news(self, news: list[StoredEvent], *, lost: bool) -> bool:
        """Whether the job has ended. A step of progress says all that has changed; else the state does, and
        of several always."""
        steps = [stored.event for stored in news if isinstance(stored.event, JobProgressed)]
        if self._several:
            concerns = any(stored.event.job_id in self._several for stored in news)
            return (lost or concerns) and await self.send_state()
        if lost or len(steps) < len(news):
            return await self.send_state()
        for step in steps[-1:]:
            said = progress(step.progress, self._nodes, step.node_id, step.node_title)
            await self._send("progress", said)
            await self._send_preview(step.node_id)
        return False

    async def _send_preview(self, node_id: str | None) -> None:
        """What the node that samples shows now, if that is news."""
        now = asyncio.get_running_loop().time()
        if now < self._preview_due:
            return
        self._preview_due = now + PREVIEW_S
        with contextlib.suppress(NotFound):  # it shows nothing, or another process drives the engine
            found: PreviewResult = await call(
                self._request, "workflow_preview", {"workflow_id": self._request.match_info["jobId"]}
            )
            if found.data != self._preview:
                self._preview = found.data
                data = base64.b64encode(found.data).decode("ascii")
                said = {"node_id": node_id or "", "content_type": found.media_type, "data_base64": data}
                await self._send("preview", said)

    async def send_sign_of_life(self) -> None:
        await self._write(b": alive\n\n")

    async def _send(self, event: str, data: Json) -> None:
        await self._write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())

    async def _write(self, data: bytes) -> None:
        await write_within(self._limit_s, self._response.write(data), cut=self._request.transport)
