"""From an event of the engine to every client that follows: how long it takes, by kind and number of them.

The engine is scripted and lives in this process, as the clients do: both ends of a lag have one clock.
"""

import asyncio
import gc
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bench.clients import WORKFLOW
from bench.processes import Run, bare_server, cpu_ms, sidecar
from bench.raw import RawClient
from bench.stats import Aim, Sample, Section
from tests.support.fake_engine import FakeEngine
from tests.support.graphs import picture
from tests.support.mcp_http import modern_request

EVENTS = 20
CROWDS = (100, 1_000)
WEBSOCKET, SSE, MCP, BARE = "WebSocket", "Server-Sent Events", "MCP listen", "bare WebSocket"
LIMITS_MS = {(MCP, 100): 20.0, (MCP, 1_000): 100.0, (WEBSOCKET, 1_000): 60.0, (SSE, 1_000): 60.0}
SPACING_S = 0.4
"""Between two events: MCP tells of a running job at most three times a second (a fourth place is kept for its
end), and what has to wait for its turn is no lag."""

HEARD_S = 60.0
STEPS = 500
"""Of the job's one node, half of its progress: each step shows in the tenths of a percent."""

Send = Callable[[], Coroutine[Any, Any, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of listener, as bytes: what it sends, what tells that it listens, what it counts."""

    request: bytes
    marker: bytes
    ready: Callable[[bytes], bool]
    then: bytes = b""
    """Sent after the answer's head."""


class Crowd:
    """Clients that all get the same events. `heard` is called by each for each."""

    def __init__(self, size: int) -> None:
        self.sample = Sample(name="lag")
        self._size = size
        self._sent = 0.0
        self._heard = 0
        self._all = asyncio.Event()
        self._all.set()

    def heard(self, events: int) -> None:
        if self._all.is_set():
            return  # nothing was sent: a stream repeats the state where its past ends
        self.sample.values += [(time.perf_counter() - self._sent) * 1000] * events
        self._heard += events
        if self._heard >= self._size:
            self._all.set()

    async def tell(self, send: Send) -> None:
        """Send one event and wait until every client has it. Raises TimeoutError."""
        self._heard = 0
        self._all.clear()
        self._sent = time.perf_counter()
        await send()
        async with asyncio.timeout(HEARD_S):
            try:
                await self._all.wait()
            except asyncio.CancelledError:
                raise TimeoutError(f"{self._heard} of {self._size} clients have got it") from None


class Listener(asyncio.Protocol):
    """The least that a client can do: a thousand of them must not be slower than the server."""

    def __init__(self, kind: Kind, crowd: Crowd) -> None:
        self.ready = asyncio.Event()
        self._kind = kind
        self._crowd = crowd
        self._past = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._kind.request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.ready.is_set():
            if events := data.count(self._kind.marker):
                self._crowd.heard(events)
            return
        if not self._past and self._kind.then:
            assert self._transport is not None
            self._transport.write(self._kind.then)
        self._past += data
        if self._kind.ready(self._past):
            self.ready.set()


async def measure_lag(run: Run) -> list[Section]:
    events, crowds = run.times(EVENTS, 2), (2, 3) if run.quick else CROWDS
    found: dict[tuple[str, int], tuple[Sample, float]] = {}
    folder = run.fresh("lag")
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(FakeEngine())
        url, pid = await stack.enter_async_context(sidecar(folder, engine.url))
        bare_url, bare_pid = await stack.enter_async_context(bare_server(folder))
        job = await stack.enter_async_context(_running_job(engine, url))
        sender = await RawClient.connect(bare_url)
        stack.push_async_callback(sender.close)
        told = json.dumps({"type": "workflow:progress", "workflowId": "x" * 36, "progress": 50.0, "seq": 1})
        for size in crowds:
            bare = _websocket(bare_url, "/fan", (), b"101 Switching")
            found[BARE, size] = await _lags(
                bare, bare_url, bare_pid, size, events, lambda: sender.post("/tell", told.encode())
            )
            for name, kind in (await _kinds(url, job)).items():
                found[name, size] = await _lags(kind, url, pid, size, events, job.step)
    return [
        Section(
            title="From an engine's event to the clients",
            note="The engine sends a step of a running job; each client notes when its bytes are there. "
            "Engine and clients share one process and its one core, so the last of many clients also waits "
            "until the ones before it have been read: the bare server, an aiohttp WebSocket handler that "
            f"passes on what comes, shows how much that is. {events} events, {SPACING_S} s apart, so that "
            "none waits for the pace that MCP notifications keep. This process collects no garbage "
            "meanwhile. CPU is that of the server's process.",
            columns=("what", "n", "p50 ms", "p99 ms", "CPU µs a client and event"),
            rows=tuple(
                (
                    f"{name}, {size} clients",
                    str(len(lag.values)),
                    f"{lag.p50:.1f}",
                    f"{lag.p99:.1f}",
                    f"{cpu:.0f}",
                )
                for (name, size), (lag, cpu) in found.items()
            ),
            aims=tuple(
                Aim(what=f"event lag p99, {name}, {size} clients", value=lag.p99, limit=limit, unit="ms")
                for (name, size), limit in LIMITS_MS.items()
                for lag, _ in [found.get((name, size), (None, 0))]
                if lag is not None
            ),
        )
    ]


async def _lags(kind: Kind, url: str, pid: int, size: int, events: int, send: Send) -> tuple[Sample, float]:
    """The lags, and the server's CPU in µs for each client and event."""
    crowd, loop, parts = Crowd(size), asyncio.get_running_loop(), urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    listeners: list[Listener] = []
    try:
        for _ in range(size):
            listeners.append(Listener(kind, crowd))
            await loop.create_connection(lambda: listeners[-1], parts.hostname, parts.port)
        async with asyncio.timeout(HEARD_S):
            for listener in listeners:
                await listener.ready.wait()
        await asyncio.sleep(SPACING_S)
        before = cpu_ms(pid)
        with _no_garbage_collected():
            for _ in range(events):
                await crowd.tell(send)
                await asyncio.sleep(SPACING_S)
        return crowd.sample, (cpu_ms(pid) - before) * 1000 / (size * events)
    finally:
        for listener in listeners:
            listener.close()


@contextmanager
def _no_garbage_collected() -> Iterator[None]:
    """In this process: to walk the objects of 1,000 clients would stop their clock, and no server's."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _kinds(url: str, job: "_Job") -> dict[str, Kind]:
    """The three ways to follow this job."""
    client = await RawClient.connect(url)
    past = (await client.get(f"{WORKFLOW}/{job.workflow_id}")).json["progress"]
    await client.close()
    wanted = {"notifications": {"resourceSubscriptions": [f"comfy://workflows/{job.workflow_id}"]}}
    listen = modern_request("subscriptions/listen", wanted)
    subscribe = ({"type": "subscribe", "workflowId": job.workflow_id}, {"type": "ping"})
    return {
        WEBSOCKET: _websocket(url, "/v1/comfyui/stream", subscribe, b'"pong"'),
        SSE: Kind(
            request=_request(url, "GET", f"{WORKFLOW}/{job.workflow_id}/events"),
            marker=b'"workflow:progress"',
            ready=lambda data: _progress(data) >= past,  # the past comes first
        ),
        MCP: Kind(
            request=_request(url, "POST", "/mcp", json.dumps(listen["json"]).encode(), **listen["headers"]),
            marker=b"notifications/resources/updated",
            ready=lambda data: b"acknowledged" in data,
        ),
    }


def _progress(data: bytes) -> float:
    """The last progress in a stream of Server-Sent Events."""
    lines = [line[6:] for line in data.split(b"\n")[:-1] if line.startswith(b"data: ")]
    told = [json.loads(line)["progress"] for line in lines if b'"workflow:progress"' in line]
    return float(told[-1]) if told else 0.0


def _websocket(url: str, path: str, messages: tuple[Mapping[str, Any], ...], ready: bytes) -> Kind:
    """The frames' mask is four zeros: a client must send one, any will do."""
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    texts = [json.dumps(message).encode() for message in messages]
    return Kind(
        request=_request(url, "GET", path, b"", **upgrade),
        marker=b'"workflow:progress"',
        ready=lambda data: ready in data,
        then=b"".join(bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text for text in texts),
    )


def _request(url: str, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    lines = {"Host": urlsplit(url).netloc, **headers}
    if body:
        lines |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


@asynccontextmanager
async def _running_job(engine: FakeEngine, url: str) -> AsyncIterator["_Job"]:
    """A job that is in the engine's hands, and never ends."""
    client = await RawClient.connect(url)
    body = json.dumps({"workflow": picture("bench/lag")}).encode()
    submitted = (await client.post(WORKFLOW, body)).json
    connection = await engine.connections.get()
    while not engine.pending:  # noqa: ASYNC110 - what another process does
        await asyncio.sleep(0.01)
    prompt_id = engine.pending.pop()
    engine.running.append(prompt_id)
    job = _Job(engine, connection.client_id, prompt_id, submitted["workflowId"])
    await job.send("execution_start", {})
    await job.send("executing", {"node": "1", "display_node": "1"})
    await job.step()
    while (await client.get(f"{WORKFLOW}/{job.workflow_id}")).json["progress"] == 0:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    try:
        yield job
    finally:
        await client.close()


class _Job:
    def __init__(self, engine: FakeEngine, client_id: str, prompt_id: str, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        self._engine = engine
        self._client_id = client_id
        self._prompt_id = prompt_id
        self._steps = itertools.count(1)

    async def step(self) -> None:
        await self.send("progress", {"node": "1", "value": next(self._steps), "max": STEPS})

    async def send(self, kind: str, data: dict[str, Any]) -> None:
        message = {"type": kind, "data": {"prompt_id": self._prompt_id, **data}}
        assert await self._engine.send(self._client_id, message)
