"""GET of a workflow and POST of one, next to an aiohttp server that does nothing."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from bench.clients import WORKFLOW
from bench.processes import NOBODY, Run, bare_server, cpu_ms, engine, sidecar
from bench.raw import RawClient
from bench.stats import Aim, Sample, Section, ratio
from tests.support.graphs import picture

IN_FLIGHT = 16
ROUNDS = 15
GETS, POSTS = 50, 5
"""Requests of a round on each connection."""

GET_CPU = 2.5

Ask = Callable[[RawClient], Awaitable[None]]


class _Kind:
    def __init__(self, name: str, server: tuple[str, int], ask: Ask) -> None:
        self.name = name
        self.url, self._pid = server
        self._ask = ask
        self.one, self.many, self.cpu = (Sample(name=what) for what in ("one", "many", "cpu"))

    async def round(self, calls: int) -> None:
        """One request after the other, then on many connections at once. CPU is that of the latter."""
        clients = [await RawClient.connect(self.url) for _ in range(IN_FLIGHT)]
        for client in clients:
            await self._ask(client)
        for _ in range(calls):
            await self.one.time(lambda: self._ask(clients[0]))
        before = cpu_ms(self._pid)
        taken = Sample(name="all")
        await taken.time(lambda: self._together(clients, calls))
        amount = calls * IN_FLIGHT
        self.many.values.append(taken.p50 / amount)
        self.cpu.values.append((cpu_ms(self._pid) - before) / amount)
        for client in clients:
            await client.close()

    async def _together(self, clients: list[RawClient], calls: int) -> None:
        async def repeat(client: RawClient) -> None:
            for _ in range(calls):
                await self._ask(client)

        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(repeat(client))

    def row(self, bare: "_Kind | None" = None) -> tuple[str, ...]:
        numbers = (f"{self.one.p50:.2f}", f"{self.one.p99:.2f}", f"{1000 / self.many.p50:.0f}")
        compared = "—" if bare is None else f"{ratio(self.cpu, bare.cpu):.2f}"
        return (self.name, str(len(self.one.values)), *numbers, f"{self.cpu.p50 * 1000:.0f}", compared)


async def measure_requests(run: Run) -> list[Section]:
    """Interleaved: each round asks every server for the same number of answers."""
    rounds, gets, posts = run.times(ROUNDS), run.times(GETS, 2), run.times(POSTS, 1)
    async with AsyncExitStack() as stack:
        folder = run.fresh("requests")
        url, _ = await stack.enter_async_context(engine("embedded", folder / "engine"))
        bare = await stack.enter_async_context(bare_server(folder))
        served = await stack.enter_async_context(sidecar(folder, url))
        queueing = await stack.enter_async_context(sidecar(run.fresh("submits"), NOBODY))
        job = await _finished(served[0])
        graph = json.dumps({"workflow": picture("bench/submit")}).encode()
        bare_get = _Kind("bare aiohttp, GET", bare, _get("/status"))
        get = _Kind("GET workflow", served, _get(f"{WORKFLOW}/{job}"))
        bare_post = _Kind("bare aiohttp, POST", bare, _post("/submit", graph))
        post = _Kind("POST workflow, durable", queueing, _post(WORKFLOW, graph))
        for number in range(rounds):
            for pair, calls in (((bare_get, get), gets), ((bare_post, post), posts)):
                for kind in pair if number % 2 else reversed(pair):
                    await kind.round(calls)
    aim = Aim(
        what="GET of a workflow, server CPU ÷ a bare handler's",
        value=ratio(get.cpu, bare_get.cpu),
        limit=GET_CPU,
        unit="times",
    )
    return [
        Section(
            title="HTTP requests",
            note="A client that only reads and writes bytes, on kept connections. Bare: an aiohttp handler "
            "that answers with a constant as JSON, or parses what came. The status is that of a completed "
            "workflow with one output; a submit is checked, written and answered, no engine takes it. Times: "
            f"one request after the other. Rate and CPU of the server's process: {IN_FLIGHT} connections at "
            f"once, medians of {rounds} rounds.",
            columns=("what", "n", "p50 ms", "p99 ms", "per second", "CPU µs a request", "÷ bare"),
            rows=(bare_get.row(), get.row(bare_get), bare_post.row(), post.row(bare_post)),
            aims=(aim,),
        )
    ]


async def _finished(url: str) -> str:
    client = await RawClient.connect(url)
    body = json.dumps({"workflow": picture("bench/status")}).encode()
    state = (await client.post(WORKFLOW, body, Prefer="wait=30")).json
    assert state["status"] == "completed", state
    await client.close()
    return str(state["workflowId"])


def _get(path: str) -> Ask:
    async def ask(client: RawClient) -> None:
        answer = await client.get(path)
        assert answer.status == 200, answer

    return ask


def _post(path: str, body: bytes) -> Ask:
    async def ask(client: RawClient) -> None:
        answer = await client.post(path, body)
        assert answer.status == 202, answer

    return ask
