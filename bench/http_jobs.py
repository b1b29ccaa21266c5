"""From a submit to the picture's bytes, many in flight: a bare ComfyUI client and the sidecar in turn."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import aiohttp

from bench.http_raw import RawClient
from bench.http_requests import WORKFLOW
from bench.http_servers import sidecar
from bench.stats import Aim, Section, percentile
from tests.support.graphs import picture, slow

IN_FLIGHT = (1, 8, 32, 100)
THROUGHPUT_TIMES = 1.25
"""The bare client may get through so many times as many jobs a second: 0.8 of its rate is the aim."""

GRAPHS: dict[str, Callable[[], dict[str, Any]]] = {
    "~0 ms": lambda: picture("bench/http"),
    "20 ms": lambda: slow(steps=1, step_ms=20, prefix="bench/http"),
}
Fetch = Callable[[dict[str, Any]], Awaitable[bytes]]


async def measure_jobs_over_http(engine_url: str, folder: Path, *, jobs: int, rounds: int) -> Section:
    rows: list[tuple[str, ...]] = []
    aims: list[Aim] = []
    refused = 0
    async with AsyncExitStack() as stack:
        served, _ = await stack.enter_async_context(sidecar(folder / "jobs", engine_url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        bare = await stack.enter_async_context(_Bare(session, engine_url))
        for kind, graph in GRAPHS.items():
            for number in IN_FLIGHT:
                clients = [await RawClient.connect(served) for _ in range(number)]
                through = [_Through(client) for client in clients]
                amount = max(jobs, number)
                first, second = _Tally(), _Tally()
                for _ in range(rounds):
                    await first.run(graph, amount, [bare.fetch] * number)
                    await second.run(graph, amount, [each.fetch for each in through])
                refused += sum(each.refused for each in through)
                for client in clients:
                    await client.close()
                rows += [first.row(f"{kind}, {number} in flight, bare"), second.row("through the sidecar")]
                aims.append(
                    Aim(
                        what=f"{kind} jobs, {number} in flight: bare jobs/s ÷ sidecar's",
                        value=first.rate / second.rate,
                        limit=THROUGHPUT_TIMES,
                        unit="times",
                    )
                )
    return Section(
        title="From submit to the picture's bytes over HTTP",
        note="Bare: POST /prompt, the socket's `executing: null`, GET /history, GET /view, on kept "
        "connections. The sidecar: POST workflow with `Prefer: wait`, GET the output's url; each job durable."
        f" The median of {rounds} rounds of {jobs} jobs or more, in turn.",
        columns=("what", "n", "p50 ms", "p99 ms", "jobs per second"),
        rows=tuple(rows),
        aims=(*aims, Aim(what="jobs refused by the sidecar", value=refused, limit=0, unit="jobs")),
    )


class _Tally:
    """Times of single jobs, and rates of whole rounds."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._rates: list[float] = []

    @property
    def rate(self) -> float:
        return percentile(self._rates, 50)

    def row(self, name: str) -> tuple[str, ...]:
        times = (percentile(self._times, 50), percentile(self._times, 99))
        return (name, str(len(self._times)), *(f"{each:.1f}" for each in times), f"{self.rate:.0f}")

    async def run(self, graph: Callable[[], dict[str, Any]], amount: int, fetchers: list[Fetch]) -> None:
        """`amount` jobs, as many at once as there are fetchers."""
        left = iter(range(amount))

        async def work(fetch: Fetch) -> None:
            for _ in left:
                begin = time.perf_counter()
                assert (await fetch(graph())).startswith(b"\x89PNG")
                self._times.append((time.perf_counter() - begin) * 1000)

        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for fetch in fetchers:
                group.create_task(work(fetch))
        self._rates.append(amount / (time.perf_counter() - begin))


class _Through:
    """One kept connection to the sidecar."""

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self.refused = 0

    async def fetch(self, graph: dict[str, Any]) -> bytes:
        body = json.dumps({"workflow": graph}).encode()
        answer = await self._client.post(WORKFLOW, body, Prefer="wait=60")
        self.refused += answer.status >= 400
        state = answer.json
        assert state["status"] == "completed", state
        return (await self._client.get(state["outputs"][0]["url"])).body


class _Bare:
    """One socket for all jobs, as a bare client has it; requests on raw connections too."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._client_id = uuid.uuid4().hex
        self._ended: dict[str, asyncio.Event] = {}
        self._idle: list[RawClient] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        address = f"{self._url.replace('http', 'ws', 1)}/ws?clientId={self._client_id}"
        socket = await self._session.ws_connect(address, max_msg_size=0)
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        listening = group.create_task(self._listen(socket))
        self._stack.callback(listening.cancel)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for client in self._idle:
            await client.close()
        await self._stack.aclose()

    async def fetch(self, graph: dict[str, Any]) -> bytes:
        client = self._idle.pop() if self._idle else await RawClient.connect(self._url)
        prompt_id = str(uuid.uuid4())
        ended = self._ended[prompt_id] = asyncio.Event()
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": self._client_id}
        assert (await client.post("/prompt", json.dumps(body).encode())).status == 200
        await ended.wait()
        entry = (await client.get(f"/history/{prompt_id}")).json[prompt_id]
        [file] = entry["outputs"]["2"]["images"]
        query = f"filename={file['filename']}&subfolder={file['subfolder']}&type={file['type']}"
        answer = await client.get(f"/view?{query}")
        self._idle.append(client)
        del self._ended[prompt_id]
        return answer.body

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT or '"executing"' not in message.data:
                continue
            data = message.json()["data"]
            if data["node"] is None and data["prompt_id"] in self._ended:
                self._ended[data["prompt_id"]].set()
