"""From an event of the engine to every client that follows: how long it takes, by kind and number of them.

The engine is scripted and lives in this process, as the clients do: both ends of a lag have one clock.
"""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp

from bench.http_raw import RawClient
from bench.http_requests import WORKFLOW
from bench.http_servers import bare_server, sidecar
from bench.stats import Aim, Sample, Section
from tests.support.fake_engine import FakeEngine
from tests.support.graphs import picture
from tests.support.mcp_http import modern_request

LIMIT_MS = 20.0
LIMIT_AT = 100
SPACING_S = 0.4
"""Between two events: MCP tells of a running job at most three times a second (a fourth place is kept for its
end), and what has to wait for its turn is no lag."""

HEARD_S = 60.0
STEPS = 500
"""Of the job's one node, half of its progress: each step shows in the tenths of a percent."""

SETTINGS: Mapping[str, str] = MappingProxyType({"PROGRESS_INTERVAL_S": "0.01", "STREAM_MAX_CLIENTS": "5000"})


class Crowd:
    """Clients that all hear the same events. `heard` is called by each for each."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.sample = Sample(name="")
        self._sent = 0.0
        self._heard = 0
        self._all = asyncio.Event()

    def heard(self) -> None:
        self.sample.values.append((time.perf_counter() - self._sent) * 1000)
        self._heard += 1
        if self._heard == self.size:
            self._all.set()

    async def tell(self, send: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Send one event and wait until every client has it. Raises TimeoutError."""
        self._heard = 0
        self._all.clear()
        self._sent = time.perf_counter()
        await send()
        async with asyncio.timeout(HEARD_S):
            await self._all.wait()


Client = Callable[[aiohttp.ClientSession, str, str, Crowd, asyncio.Semaphore], Coroutine[Any, Any, None]]


async def measure_lag(folder: Path, *, events: int, crowds: Sequence[int]) -> Section:
    samples: dict[tuple[str, int], Sample] = {}
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(FakeEngine())
        url, _ = await stack.enter_async_context(sidecar(folder / "lag", engine.url, **SETTINGS))
        bare = await stack.enter_async_context(bare_server(folder))
        job = await stack.enter_async_context(_running_job(engine, url))
        for size in crowds:
            samples["bare WebSocket", size] = await _bare(bare, size, events)
            for kind, client in CLIENTS.items():
                samples[kind, size] = await _lags(client, url, job, size, events)
    return Section(
        title="From an engine's event to the clients",
        note="The engine sends a step of a running job; each client notes when it has it. Engine and clients "
        "share one process and its one core, so the last of many clients also waits until the ones before it "
        "have been read: the bare server, an aiohttp WebSocket handler that passes on what comes, shows how "
        f"much that is. {events} events, {SPACING_S} s apart, so that none waits for the pace that MCP "
        "notifications keep.",
        columns=("what", "n", "p50 ms", "p99 ms"),
        rows=tuple(
            (f"{kind}, {size} clients", str(len(each.values)), f"{each.p50:.1f}", f"{each.p99:.1f}")
            for (kind, size), each in samples.items()
        ),
        aims=tuple(
            Aim(what=f"event lag p99, {kind}, {size} clients", value=each.p99, limit=LIMIT_MS, unit="ms")
            for (kind, size), each in samples.items()
            if size == LIMIT_AT and kind in CLIENTS
        ),
    )


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


async def _lags(client: Client, url: str, job: _Job, size: int, events: int) -> Sample:
    async def follow(session: aiohttp.ClientSession, crowd: Crowd, ready: asyncio.Semaphore) -> None:
        await client(session, url, job.workflow_id, crowd, ready)

    return await _told(follow, job.step, size, events)


async def _bare(url: str, size: int, events: int) -> Sample:
    async def follow(session: aiohttp.ClientSession, crowd: Crowd, ready: asyncio.Semaphore) -> None:
        async with session.ws_connect(f"{url}/fan") as socket:
            ready.release()
            async for _ in socket:
                crowd.heard()

    sender = await RawClient.connect(url)
    text = json.dumps({"type": "workflow:progress", "workflowId": "x" * 36, "progress": 50.0, "seq": 1})
    try:
        return await _told(follow, lambda: sender.post("/tell", text.encode()), size, events)
    finally:
        await sender.close()


async def _told(
    follow: Callable[[aiohttp.ClientSession, Crowd, asyncio.Semaphore], Coroutine[Any, Any, None]],
    send: Callable[[], Coroutine[Any, Any, object]],
    size: int,
    events: int,
) -> Sample:
    crowd, ready = Crowd(size), asyncio.Semaphore(0)
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        asyncio.TaskGroup() as group,
    ):
        following = [group.create_task(follow(session, crowd, ready)) for _ in range(size)]
        async with asyncio.timeout(HEARD_S):
            for _ in following:
                await ready.acquire()
        await asyncio.sleep(SPACING_S)
        for _ in range(events):
            await crowd.tell(send)
            await asyncio.sleep(SPACING_S)
        for task in following:
            task.cancel()
    return crowd.sample


async def _socket(
    session: aiohttp.ClientSession, url: str, workflow_id: str, crowd: Crowd, ready: asyncio.Semaphore
) -> None:
    async with session.ws_connect(f"{url}/v1/comfyui/stream") as socket:
        await socket.send_json({"type": "subscribe", "workflowId": workflow_id})
        await socket.send_json({"type": "ping"})
        async for message in socket:
            if '"workflow:progress"' in message.data:
                crowd.heard()
            elif '"pong"' in message.data:
                ready.release()


async def _events(
    session: aiohttp.ClientSession, url: str, workflow_id: str, crowd: Crowd, ready: asyncio.Semaphore
) -> None:
    """The past comes first; it is over once its last message is."""
    past = (await _state(session, url, workflow_id))["progress"]
    async with session.get(f"{url}{WORKFLOW}/{workflow_id}/events") as stream:
        listening = False
        async for line in stream.content:
            if not line.startswith(b"data: ") or b'"workflow:progress"' not in line:
                continue
            if listening:
                crowd.heard()
            elif json.loads(line[6:])["progress"] >= past:
                listening = True
                ready.release()


async def _state(session: aiohttp.ClientSession, url: str, workflow_id: str) -> dict[str, Any]:
    async with session.get(f"{url}{WORKFLOW}/{workflow_id}") as answer:
        return dict(await answer.json())


async def _listen(
    session: aiohttp.ClientSession, url: str, workflow_id: str, crowd: Crowd, ready: asyncio.Semaphore
) -> None:
    """MCP as 2026-07-28 has it: one long answer, resource notifications in it."""
    wanted = {"notifications": {"resourceSubscriptions": [f"comfy://workflows/{workflow_id}"]}}
    async with session.post(f"{url}/mcp", **modern_request("subscriptions/listen", wanted)) as stream:
        async for line in stream.content:
            if b"notifications/resources/updated" in line:
                crowd.heard()
            elif b"acknowledged" in line:
                ready.release()


CLIENTS: Mapping[str, Client] = MappingProxyType(
    {"WebSocket": _socket, "Server-Sent Events": _events, "MCP listen": _listen}
)
