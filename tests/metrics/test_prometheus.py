"""A real Prometheus scrapes a real bridge, and tells of the workflow that ran and of an engine's end."""

from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.gpu.test_nvml import compiled
from tests.metrics import promql
from tests.support.graphs import failing, picture
from tests.support.processes import embedded_engine, kill
from tests.support.prometheus import Prometheus, prometheus
from tests.support.serve_process import serve_process
from tests.support.sidecar import WORKFLOW
from tests.support.warm_python import WARM_PYTHON

KEY = "a-key-of-the-tests-0123456789"
HEADERS = {"Authorization": f"Bearer {KEY}"}
NOT_HERE = ("power_limit", "torch_vram", "ALERTS{", "mcp_tool", "changes(")
"""The driver does not tell, nor does the engine; no alert fires; no agent, no restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    prometheus: Prometheus
    bridge: str
    engine: Process

    @property
    def instance(self) -> str:
        return self.bridge.removeprefix("http://")

    async def run(self, graph: dict[str, object]) -> str:
        """The state in which it ends."""
        async with aiohttp.ClientSession(self.bridge, headers=HEADERS) as session:
            async with session.post(WORKFLOW, json={"workflow": graph}) as answer:
                assert answer.status == 202
                job = (await answer.json())["workflowId"]
            async with session.get(f"{WORKFLOW}/{job}/wait?timeout_s=30") as answer:
                return str((await answer.json())["status"])


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A bridge whose /metrics asks for a key, its engine, a driver with a hot GPU, and a Prometheus that has
    scraped it."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(compiled(tmp_path)))
    monkeypatch.setenv("FAKE_NVML", "slowed")
    command = (WARM_PYTHON, "-m", "tests.support.chaos", '{"constants": {"REFRESH_S": 0.2}}', "http_sidecar")
    settings = {"HTTP_KEY": KEY, "METRICS_PUBLIC": "false"}
    async with AsyncExitStack() as stack:
        engine, engine_url = await stack.enter_async_context(embedded_engine(tmp_path / "engine"))
        served = await stack.enter_async_context(
            serve_process(tmp_path, f"one={engine_url}", *command, **settings)
        )
        async with aiohttp.ClientSession() as session, session.get(f"{served.url}/metrics") as refused:
            assert refused.status == 401
        target = served.url.removeprefix("http://")
        watching = await stack.enter_async_context(prometheus(tmp_path, target=target, key=KEY))
        await watching.until('comfy_bridge_engine_up{engine="one"} == 1')
        yield Scene(prometheus=watching, bridge=served.url, engine=engine)


async def test_queries_return_the_workflows_that_just_ran_and_the_dashboard_has_something_to_show(
    scene: Scene,
) -> None:
    nothing = await scene.prometheus.until('comfyui_workflow_total{status="completed"}')
    assert [each.value for each in nothing] == [0]
    assert await scene.run(picture()) == "completed"
    (completed,) = await scene.prometheus.until('comfyui_workflow_total{status="completed"} > 0')
    assert completed.value == 1
    assert completed.labels["job"] == "comfy-bridge"
    assert completed.labels["instance"] == scene.instance
    (ran,) = await scene.prometheus.until('comfy_bridge_workflow_run_seconds_count{status="completed"}')
    assert (ran.labels["engine"], ran.value) == ("one", 1)

    assert await scene.run(failing()) == "failed"
    (failed,) = await scene.prometheus.until("comfyui_workflow_errors_total > 0")
    assert (failed.labels["error_type"], failed.value) == ("node_error", 1)
    await scene.prometheus.until('rate(api_errors_total{error_type="unauthenticated"}[1m])')
    for _, expression in promql.queries():
        asked = expression.replace(promql.VARIABLES["$instance"], scene.instance)
        if any(name in asked for name in NOT_HERE):
            await scene.prometheus.query(asked)
        else:
            await scene.prometheus.until(asked)


async def test_a_slowed_gpu_and_a_killed_engine_are_alerts_that_say_so(scene: Scene) -> None:
    slowed = await scene.prometheus.until(promql.rules()["ComfyGpuThrottled"]["expr"])
    assert {each.labels["reason"] for each in slowed} == {"sw_thermal", "hw_thermal", "other"}
    (errors,) = await scene.prometheus.until(promql.rules()["ComfyGpuMemoryErrors"]["expr"])
    assert (errors.labels["gpu_id"], errors.value) == ("0", 1)
    assert await summary(scene, "ComfyGpuMemoryErrors") == (
        f"GPU 0 of {scene.instance} had 1 uncorrected memory errors."
    )

    engine_down = promql.rules()["ComfyEngineDown"]["expr"]
    assert await scene.prometheus.query(engine_down) == []
    kill(scene.engine)
    (down,) = await scene.prometheus.until(engine_down)
    assert down.labels["engine"] == "one"
    assert await summary(scene, "ComfyEngineDown") == (
        f"Engine one does not answer the bridge at {scene.instance}."
    )


async def summary(scene: Scene, alert: str) -> str:
    """Of the alert, once Prometheus waits for its `for`."""
    await scene.prometheus.until(f'ALERTS{{alertname="{alert}", alertstate="pending"}}')
    alerts = (await scene.prometheus.get("alerts"))["alerts"]
    (found,) = [each for each in alerts if each["labels"]["alertname"] == alert]
    return str(found["annotations"]["summary"])
