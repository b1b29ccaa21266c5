"""Out of memory and out of time, on the real ComfyUI: with nodes of our own (support/comfyui_nodes)."""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from comfy_mcp.domain.events import FailureKind, JobRequeued
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.operations.context import Caller, OperationContext
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import WorkflowResult
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from tests.support import graphs
from tests.support.chaos_proxy import ChaosProxy, open_proxy
from tests.support.invariants import check_store
from tests.support.metrics import metrics_of
from tests.support.real_comfyui import RealComfyUI

pytestmark = pytest.mark.live

NODES = Path(__file__).parents[1] / "support" / "comfyui_nodes" / "bridge_test_nodes.py"
LIMIT_S = 60.0
TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
def comfyui_with_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealComfyUI]:
    folder = tmp_path_factory.mktemp("comfyui-with-nodes")
    server = RealComfyUI(folder, extra_args=("--whitelist-custom-nodes", NODES.name))
    shutil.copy(NODES, folder / "custom_nodes")
    with server:
        yield server


@dataclass
class House:
    """A bridge of this process, and the engine behind a proxy that counts what it is asked."""

    services: Services
    proxy: ChaosProxy
    engine_url: str

    async def __call__(self, name: str, **arguments: Any) -> Any:
        caller = Caller(client=ClientId("tester"), surface="test")
        return await BY_NAME[name].call(OperationContext(services=self.services, caller=caller), arguments)

    async def submit(self, graph: dict[str, Any], **timeouts: float) -> str:
        return str((await self("submit_workflow", workflow=graph, **timeouts)).workflow_id)

    async def until(self, job_id: str, condition: Callable[[WorkflowResult], bool]) -> WorkflowResult:
        with self.services.hub.subscribe(job_id=JobId(job_id)) as events:
            async with asyncio.timeout(LIMIT_S):
                while True:
                    state: WorkflowResult = await self("workflow_status", workflow_id=job_id, attempts=True)
                    if condition(state):
                        return state
                    await events.changed()

    async def final(self, job_id: str) -> WorkflowResult:
        return await self.until(job_id, lambda state: state.status not in {"queued", "running"})

    async def requeues(self, job_id: str) -> list[JobRequeued]:
        stored = await self.services.store.events_after(0, job_id=JobId(job_id))
        return [each.event for each in stored if isinstance(each.event, JobRequeued)]

    async def history(self, prompt_id: str) -> dict[str, Any]:
        """ComfyUI's own record; empty if it has none."""
        url = f"{self.engine_url}/history/{prompt_id}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return dict((await answer.json()).get(prompt_id, {}))

    @property
    def engine(self) -> str:
        return str(self.services.settings.engines[0].id)

    def counted(self, name: str, **labels: str) -> float:
        return metrics_of(self.services).registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def house(tmp_path: Path, comfyui_with_nodes: RealComfyUI) -> AsyncIterator[House]:
    async with open_proxy(comfyui_with_nodes.port) as proxy:
        settings = load_settings(engine_urls=f"http://127.0.0.1:{proxy.port}", state_dir=tmp_path / "state")
        async with open_runtime(settings) as services:
            yield House(services, proxy, comfyui_with_nodes.url)
            await check_store(services.store)


def through(class_type: str, count: int, **inputs: Any) -> dict[str, Any]:
    """EmptyImage, then so many of this node, one after the other, then SaveImage."""
    graph = graphs.picture()
    last = "1"
    for number in range(10, 10 + count):
        graph[str(number)] = {"class_type": class_type, "inputs": {"image": [last, 0], **inputs}}
        last = str(number)
    graph["2"]["inputs"]["images"] = [last, 0]
    return graph


def greedy(times: int) -> dict[str, Any]:
    return through("BridgeRunsOutOfMemory", 1, times=times, key=uuid.uuid4().hex)


def lengthy() -> dict[str, Any]:
    """Half a minute."""
    return through("BridgeTakesItsTime", 100, milliseconds=300)


async def test_what_runs_out_of_memory_once_is_freed_tried_again_and_completes(house: House) -> None:
    job_id = await house.submit(greedy(times=1))
    done = await house.final(job_id)

    assert (done.status, done.attempt, len(done.outputs)) == ("completed", 2, 1)
    (requeued,) = await house.requeues(job_id)
    assert requeued.cause is FailureKind.OOM
    assert "would exceed allowed memory" in requeued.reason
    assert house.proxy.requests["POST /free"] == 1
    assert house.counted("comfy_bridge_oom_retries_total", engine=house.engine) == 1
    assert done.attempts is not None
    first, second = [await house.history(each.prompt_id) for each in done.attempts]
    assert first["status"]["status_str"] == "error"
    (said,) = (detail for name, detail in first["status"]["messages"] if name == "execution_error")
    assert said["exception_type"].endswith("OutOfMemoryError")
    assert second["status"]["completed"]


async def test_what_runs_out_of_memory_again_fails_with_the_facts(house: House) -> None:
    job_id = await house.submit(greedy(times=2))
    failed = await house.final(job_id)

    assert (failed.status, failed.attempt) == ("failed", 2)
    assert failed.failure is not None
    assert (failed.failure.kind, failed.failure.node_type) == ("oom", "BridgeRunsOutOfMemory")
    assert "again, after the engine was asked to free memory" in failed.failure.message
    assert [each.cause for each in await house.requeues(job_id)] == [FailureKind.OOM]
    assert house.proxy.requests["POST /free"] == 1
    assert house.counted("comfyui_workflow_errors_total", error_type="oom") == 1


async def test_a_run_beyond_its_timeout_is_interrupted_there(house: House) -> None:
    job_id = await house.submit(lengthy(), run_timeout_s=TIMEOUT_S)
    failed = await house.final(job_id)

    assert failed.status == "failed"
    assert failed.failure is not None
    assert failed.failure.kind == "timeout"
    assert "run timeout" in failed.failure.message
    assert failed.attempts is not None
    (attempt,) = failed.attempts
    entry = await house.history(attempt.prompt_id)
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"


async def test_a_wait_beyond_its_timeout_ends_and_who_runs_is_left_alone(house: House) -> None:
    busy = await house.submit(lengthy())
    await house.until(busy, lambda state: state.status == "running")
    job_id = await house.submit(graphs.picture(), queue_timeout_s=TIMEOUT_S)
    failed = await house.final(job_id)

    assert failed.failure is not None
    assert (failed.failure.kind, failed.status) == ("timeout", "failed")
    assert "queue timeout" in failed.failure.message
    for attempt in failed.attempts or ():
        assert await house.history(attempt.prompt_id) == {}
    assert (await house("workflow_status", workflow_id=busy)).status == "running"
    await house("cancel_workflow", workflow_id=busy)
    assert (await house.final(busy)).status == "cancelled"
