"""What the bridge adds to a job: the same engine, a bare client and the bridge in turn."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.bare import BareClient, bare_client
from bench.stats import TIMES, Aim, Sample, Section, ratio, row
from comfy_mcp.domain.events import FINAL_EVENTS, JobCompleted
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller, OperationContext, Services
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from tests.support.graphs import picture

JOB_RATIO = 1.25
WARM_UP = 10


class Bridged:
    """The operations of a runtime in this process, as a surface calls them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        caller = Caller(client=ClientId("bench"), surface="bench")
        self._context = OperationContext(services=services, caller=caller)

    async def call(self, name: str, **arguments: Any) -> Any:
        return await BY_NAME[name].call(self._context, arguments)

    async def run(self, graph: dict[str, Any]) -> Any:
        """One job from its graph to its final state with outputs."""
        submitted = await self.call("submit_workflow", workflow=graph)
        result = await self.call("wait_for_workflow", workflow_id=submitted.workflow_id)
        assert result.status == "completed", result.error
        assert result.outputs
        return result

    async def run_all(self, graphs: list[dict[str, Any]]) -> None:
        """Queue them all, and hear the end of each as every surface does."""
        left: set[str] = set()
        with self._services.hub.subscribe(buffer=100 * len(graphs)) as events:
            for graph in graphs:
                left.add((await self.call("submit_workflow", workflow=graph)).workflow_id)
            while left:
                for stored in await events.changed():
                    if isinstance(stored.event, FINAL_EVENTS):
                        assert isinstance(stored.event, JobCompleted)
                        left.discard(stored.event.job_id)
        assert not events.overflowed


@asynccontextmanager
async def bridged(url: str, folder: Path) -> AsyncIterator[Bridged]:
    settings = load_settings(engine_urls=(url,), state_dir=folder, log_level="error")
    async with open_runtime(settings) as services:
        yield Bridged(services)


async def measure_jobs(
    url: str, folder: Path, engine: str, *, jobs: int, queued: int, rounds: int
) -> Section:
    async with bare_client(url) as bare, bridged(url, folder / "state") as bridge:
        for _ in range(WARM_UP):
            await bare.run(picture("bench/p"))
            await bridge.run(picture("bench/p"))
        one = await _one_by_one(bare, bridge, jobs)
        many = await _queued(bare, bridge, queued, rounds)
    aims = (
        Aim(
            what=f"trivial job on {engine}, bridge ÷ bare",
            value=ratio(*reversed(one)),
            limit=JOB_RATIO,
            unit="times",
        ),
    )
    return Section(
        title=f"A trivial job (EmptyImage → SaveImage, 64²) on {engine}",
        note="Bare: POST /prompt, wait for `executing: null` on an open socket, GET /history. "
        "Bridge: `submit_workflow` and `wait_for_workflow` in process; a job is durable before it is sent.",
        columns=TIMES,
        rows=(
            row(one[0]),
            row(one[1], one[0]),
            row(many[0]),
            row(many[1], many[0]),
        ),
        aims=aims,
    )


async def _one_by_one(bare: BareClient, bridge: Bridged, jobs: int) -> tuple[Sample, Sample]:
    first, second = Sample(name="bare client"), Sample(name="through the bridge")
    for number in range(jobs):
        turns = [(first, bare.run), (second, bridge.run)]
        for sample, run in turns if number % 2 else reversed(turns):
            graph = picture("bench/p")
            await sample.time(partial(run, graph))
    return first, second


async def _queued(bare: BareClient, bridge: Bridged, queued: int, rounds: int) -> tuple[Sample, Sample]:
    first = Sample(name=f"{queued} jobs queued at once, bare client")
    second = Sample(name=f"{queued} jobs queued at once, through the bridge")
    for number in range(rounds):
        turns = [(first, bare.run_all), (second, bridge.run_all)]
        for sample, run in turns if number % 2 else reversed(turns):
            graphs = [picture("bench/p") for _ in range(queued)]
            await sample.time(partial(run, graphs))
    return first, second
