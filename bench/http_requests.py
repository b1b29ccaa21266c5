"""GET status and POST workflow, next to an aiohttp server that does nothing."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from bench.http_raw import RawClient
from bench.http_servers import NOBODY, bare_server, sidecar
from bench.stats import Aim, Sample, Section, percentile
from tests.support.graphs import picture

WORKFLOW = "/v1/comfyui/workflow"
IN_FLIGHT = 16
STATUS_TIMES = 2.0
"""A bare GET may be answered at most so many times as often: half its rate is the aim."""

Ask = Callable[[RawClient], Awaitable[None]]


async def measure_requests(engine_url: str, folder: Path, *, calls: int, rounds: int) -> Section:
    """Interleaved: each round asks every server for the same number of answers."""
    async with AsyncExitStack() as stack:
        bare = await stack.enter_async_context(bare_server(folder))
        served, _ = await stack.enter_async_context(sidecar(folder / "requests", engine_url))
        queueing, _ = await stack.enter_async_context(sidecar(folder / "submits", NOBODY))
        job = await _finished(served)
        graph = json.dumps({"workflow": picture("bench/submit")}).encode()
        kinds: dict[str, tuple[str, Ask]] = {
            "bare aiohttp, GET": (bare, _get("/status")),
            "GET workflow": (served, _get(f"{WORKFLOW}/{job}")),
            "bare aiohttp, POST": (bare, _post("/submit", graph)),
            "POST workflow, durable": (queueing, _post(WORKFLOW, graph)),
        }
        one = {name: Sample(name=f"{name}, one at a time") for name in kinds}
        many: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, (url, ask) in kinds.items():
                await _one_by_one(url, ask, one[name], calls)
                many[name].append(await _rate(url, ask, calls))
    rates = {name: percentile(found, 50) for name, found in many.items()}
    return Section(
        title="HTTP requests",
        note="A client that only reads and writes bytes, on kept connections. Bare: an aiohttp handler that "
        "answers with a constant as JSON, or parses what came. The status is that of a completed workflow "
        "with one output; a submit is checked, written and answered, no engine takes it. Rates: "
        f"{IN_FLIGHT} connections at once, the median of {rounds} rounds.",
        columns=("what", "n", "p50 ms", "p99 ms", f"per second, {IN_FLIGHT} at once"),
        rows=tuple(
            (name, str(len(one[name].values)), f"{one[name].p50:.2f}", f"{one[name].p99:.2f}", f"{rate:.0f}")
            for name, rate in rates.items()
        ),
        aims=(
            Aim(
                what="rate of a bare aiohttp GET ÷ rate of GET workflow",
                value=rates["bare aiohttp, GET"] / rates["GET workflow"],
                limit=STATUS_TIMES,
                unit="times",
            ),
        ),
    )


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


async def _one_by_one(url: str, ask: Ask, sample: Sample, calls: int) -> None:
    client = await RawClient.connect(url)
    await ask(client)
    for _ in range(calls):
        await sample.time(lambda: ask(client))
    await client.close()


async def _rate(url: str, ask: Ask, calls: int) -> float:
    clients = [await RawClient.connect(url) for _ in range(IN_FLIGHT)]
    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(_repeat(client, ask, max(1, calls // 4)))
    elapsed = time.perf_counter() - begin
    for client in clients:
        await client.close()
    return len(clients) * max(1, calls // 4) / elapsed


async def _repeat(client: RawClient, ask: Ask, times: int) -> None:
    for _ in range(times):
        await ask(client)
