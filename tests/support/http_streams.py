"""The sidecar's streams as clients see them, and a house in which a test writes every event itself."""

import asyncio
import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import (
    AddrInfoType,
    ClientResponse,
    ClientSession,
    ClientWebSocketResponse,
    TCPConnector,
    WSMessage,
    WSMsgType,
    web,
)
from aiohttp.test_utils import TestClient, TestServer

from comfy_mcp.domain.access import ALL_RIGHTS, DEFAULT_KEY_RIGHTS, ApiKey, Right, digest_of
from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.events import JobEvent
from comfy_mcp.domain.ids import BatchId, EngineId, JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.services import Services
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Lease
from http_sidecar.api_keys import KeyRing
from http_sidecar.app import build_app
from http_sidecar.app_state import DRAIN
from http_sidecar.bounds import Bounds
from http_sidecar.door.open_streams import OPEN_STREAMS, OpenStreams, StreamKind
from http_sidecar.streams.live import LIVE, Live
from tests.support.invariants import check_store
from tests.support.jobs import GRAPH, completed, new_prompt_id, queued_event, started
from tests.support.metrics import metrics_of

DEADLINE_S = 30.0
"""Only ends a test that hangs."""

STREAM = "/v1/comfyui/stream"
Http = TestClient[Any, Any]

KEYS = {
    "alice": DEFAULT_KEY_RIGHTS,
    "bob": DEFAULT_KEY_RIGHTS,
    "root": ALL_RIGHTS,
    "blind": frozenset({Right.SUBMIT}),
}
"""Clients with a key, which is their name followed by `-key`."""


def key(client: str) -> dict[str, str]:
    return {"X-API-Key": f"{client}-key"}


ALL_EVENTS = "/v1/comfyui/events"


def events_path(job_id: str) -> str:
    return f"/v1/comfyui/workflow/{job_id}/events"


class StreamClient:
    """One WebSocket on the stream. `newest`: how far the server's hub is in the log."""

    def __init__(self, ws: ClientWebSocketResponse, newest: Callable[[], int] = lambda: 0) -> None:
        self.ws = ws
        self._newest = newest
        self._held: deque[dict[str, Any]] = deque()

    async def send(self, **message: Any) -> None:
        await self.ws.send_str(json.dumps(message))

    async def subscribe(self, workflow_id: str, since: int | None = None) -> None:
        """In force as soon as this returns; what came before stays readable."""
        await self.ask_for(workflow_id, since)
        await self.send(type="ping")
        while (message := await self._receive()).type is WSMsgType.TEXT:
            said = json.loads(message.data)
            if said["type"] == "pong":
                return
            self._held.append(said)

    async def ask_for(self, workflow_id: str, since: int | None = None) -> None:
        """Subscribe without reading on."""
        wanted: dict[str, Any] = {"type": "subscribe", "workflowId": workflow_id}
        await self.send(**wanted if since is None else wanted | {"since": since})

    async def next(self) -> dict[str, Any]:
        if self._held:
            return self._held.popleft()
        message = await self._receive()
        assert message.type is WSMsgType.TEXT, message
        parsed = json.loads(message.data)
        assert isinstance(parsed, dict)
        return parsed

    async def _receive(self) -> WSMessage:
        async with asyncio.timeout(DEADLINE_S):
            return await self.ws.receive()

    async def take(self, count: int) -> list[dict[str, Any]]:
        return [await self.next() for _ in range(count)]

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """Everything up to the first message of the kind, that one included."""
        taken = [await self.next()]
        while taken[-1]["type"] != kind:
            taken.append(await self.next())
        return taken

    async def settled(self) -> list[dict[str, Any]]:
        """What comes until the server has obeyed all that was sent, and told all that it knows now."""
        newest, taken = self._newest(), list[dict[str, Any]]()
        while True:
            await self.send(type="ping")
            *said, pong = await self.until("pong")
            taken += said
            if pong["seq"] >= newest:
                return taken

    async def closed(self) -> tuple[int | None, str]:
        """Wait for the server's close: its code and reason. What comes before is thrown away."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                message = await self.ws.receive()
                if message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR}:
                    return self.ws.close_code, str(message.extra or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class SseEvent:
    """One block of an SSE stream. `data` is None for comments and `retry`."""

    id: int | None = None
    data: dict[str, Any] | None = None
    comments: tuple[str, ...] = ()
    retry: int | None = None


async def sse_events(response: ClientResponse) -> AsyncIterator[SseEvent]:
    """As a browser reads them, comments too. Ends with the stream."""
    block: list[str] = []
    async with asyncio.timeout(DEADLINE_S):
        async for raw in response.content:
            line = raw.decode().rstrip("\r\n")
            if line:
                block.append(line)
            elif block:
                yield _sse_event(block)
                block = []
    assert not block, "the stream ended within an event"


async def sse_messages(response: ClientResponse) -> list[dict[str, Any]]:
    """Every message of a stream that ends."""
    return [event.data async for event in sse_events(response) if event.data is not None]


def _sse_event(lines: Sequence[str]) -> SseEvent:
    fields = {name: value.removeprefix(" ") for name, _, value in (line.partition(":") for line in lines)}
    return SseEvent(
        id=int(fields["id"]) if "id" in fields else None,
        data=json.loads(fields["data"]) if "data" in fields else None,
        comments=tuple(line[1:].strip() for line in lines if line.startswith(":")),
        retry=int(fields["retry"]) if "retry" in fields else None,
    )


class FixedKeys:
    """A key store with the keys of KEYS."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()

    async def keys_required(self) -> bool:
        return False

    async def require_keys(self) -> None:
        """Nothing outlives the test."""

    async def keys(self) -> list[ApiKey]:
        return [
            ApiKey(
                name=name,
                digest=digest_of(f"{name}-key"),
                rights=rights,
                created_at=0,
                revoked_at=1 if name in self.revoked else None,
            )
            for name, rights in KEYS.items()
        ]


@dataclass(kw_only=True)
class StreamHouse:
    """The whole application over a real store and hub, without an engine: the test writes what happens."""

    services: Services
    http: Http
    lease: Lease
    keys: FixedKeys
    clock: int = 1_000
    jobs: dict[JobId, Job] = field(default_factory=dict)

    @property
    def app(self) -> web.Application:
        app = self.http.app
        assert isinstance(app, web.Application)
        return app

    @property
    def open_streams(self) -> OpenStreams:
        return self.app[OPEN_STREAMS]

    @property
    def live(self) -> Live:
        return self.app[LIVE]

    def cut_off(self, kind: StreamKind) -> int:
        """Streams that were closed because their client took too little."""
        value = metrics_of(self.services).registry.get_sample_value(
            "comfy_bridge_streams_cut_off_total", {"kind": kind}
        )
        return int(value or 0)

    def drain(self) -> None:
        self.app[DRAIN].begin()

    async def all_closed(self, *, but: int = 0) -> None:
        """The server has let go of every stream, or of all but so many."""
        async with asyncio.timeout(DEADLINE_S):
            while self.open_streams.open.total() > but:
                await self.http.get("/health")

    @asynccontextmanager
    async def heard(self) -> AsyncIterator[None]:
        """At the end the hub has handed out what was written inside."""
        services = self.services
        with services.hub.subscribe() as events:
            yield
            written = await services.store.last_seq()
            async with asyncio.timeout(DEADLINE_S):
                while services.hub.seq < written:
                    await events.changed()

    async def submit(self, client: str = "alice", *, batch: str | None = None) -> JobId:
        self.clock += 1
        event = queued_event(at=self.clock, client=client)
        event = replace(event, batch=None if batch is None else BatchId(batch))
        async with self.heard():
            job, _ = await self.services.store.add_job(event, GRAPH, max_queued=100_000)
        self.jobs[job.id] = job
        return job.id

    async def cancel(self, job_id: JobId, at: int = 9_000) -> None:
        async with self.heard():
            await self.services.store.request_cancel(job_id, at=at, reason=None)

    async def claim(self) -> JobId:
        """The next job in run order gets an engine."""
        self.clock += 1
        async with self.heard():
            claim = await self.services.store.claim_next(
                self.lease, prompt_id=new_prompt_id(), now=self.clock
            )
        assert claim is not None
        self.jobs[claim.job.id] = claim.job
        return claim.job.id

    async def write(self, job_id: JobId, *events: JobEvent, outputs: Sequence[Output] = ()) -> None:
        async with self.heard():
            job = await self.services.store.record(self.lease, job_id, events, outputs=outputs)
        self.jobs[job_id] = job

    async def start(self, client: str = "alice") -> JobId:
        """A job that runs. There must be none that waits."""
        job_id = await self.submit(client)
        assert await self.claim() == job_id
        await self.write(job_id, started(self.jobs[job_id]))
        return job_id

    async def finish(self, job_id: JobId) -> None:
        await self.write(job_id, completed(self.jobs[job_id]))

    async def seqs(self, job_id: JobId) -> list[int]:
        return [stored.seq for stored in await self.services.store.events_after(0, job_id=job_id)]

    @asynccontextmanager
    async def stream(self, client: str = "alice", **options: Any) -> AsyncIterator[StreamClient]:
        headers = {**key(client), **options.pop("headers", {})}
        async with self.http.ws_connect(STREAM, headers=headers, **options) as ws:
            yield StreamClient(ws, lambda: self.services.hub.seq)

    @asynccontextmanager
    async def narrow_stream(self, client: str = "alice") -> AsyncIterator[StreamClient]:
        """One whose side of the connection holds a few kilobytes and not megabytes."""
        async with (
            _narrow_session() as session,
            session.ws_connect(self.http.make_url(STREAM), headers=key(client)) as ws,
        ):
            yield StreamClient(ws, lambda: self.services.hub.seq)

    @asynccontextmanager
    async def narrow_sse(self, job_id: str, client: str = "alice") -> AsyncIterator[ClientResponse]:
        url = self.http.make_url(events_path(job_id))
        async with _narrow_session() as session, session.get(url, headers=key(client)) as response:
            yield response

    @asynccontextmanager
    async def sse(
        self, job_id: str, client: str = "alice", *, last: int | None = None
    ) -> AsyncIterator[ClientResponse]:
        headers = key(client) if last is None else key(client) | {"Last-Event-ID": str(last)}
        async with self.http.get(events_path(job_id), headers=headers) as response:
            yield response

    @asynccontextmanager
    async def sse_of_all(
        self, client: str = "alice", *, last: int | None = None
    ) -> AsyncIterator[ClientResponse]:
        headers = key(client) if last is None else key(client) | {"Last-Event-ID": str(last)}
        async with self.http.get(ALL_EVENTS, headers=headers) as response:
            yield response


def _narrow_session() -> ClientSession:
    return ClientSession(connector=TCPConnector(socket_factory=_narrow_socket))


def _narrow_socket(address: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    return made


@asynccontextmanager
async def open_house(
    tmp_path: Path,
    *,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
    **settings: Any,
) -> AsyncIterator[StreamHouse]:
    values = {
        "engine_urls": "http://127.0.0.1:9",
        "state_dir": tmp_path / "state",
        "rate_limit_per_minute": 0,
    }
    chosen = load_settings(**(values | settings))
    async with open_runtime(chosen, drive=False) as services:
        lease = await services.store.acquire_lease(EngineId("engine"), "test", 3_600)
        assert lease is not None
        keys = FixedKeys()
        server = TestServer(build_app(Bridge(services), chosen, keys=KeyRing(chosen, keys), bounds=bounds))
        async with TestClient(server) as http:
            yield StreamHouse(services=services, http=http, lease=lease, keys=keys)
        await check_store(services.store)
