"""Several processes on one store and one engine: who drives, who takes over, and what survives kill -9."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.operations.context import Caller, OperationContext
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import WorkflowResult
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from tests.support import graphs
from tests.support.invariants import check_store
from tests.support.processes import bridge, embedded_engine, kill

LEASE_TTL_S = "1"


class Watcher:
    """An agent's process that submits and watches but never drives."""

    def __init__(self, services: Services) -> None:
        self.services = services

    async def __call__(self, name: str, **arguments: Any) -> Any:
        caller = Caller(client=ClientId("watcher"), surface="test")
        context = OperationContext(services=self.services, caller=caller)
        return await BY_NAME[name].call(context, arguments)

    async def until(self, job_id: str, condition: Callable[[WorkflowResult], bool]) -> WorkflowResult:
        with self.services.hub.subscribe(job_id=JobId(job_id)) as events:
            async with asyncio.timeout(60):
                while True:
                    result: WorkflowResult = await self("workflow_status", workflow_id=job_id)
                    if condition(result):
                        return result
                    await events.changed()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[str]:
    async with embedded_engine(tmp_path / "engine") as (_, url):
        yield url


@pytest.fixture
def env(tmp_path: Path, engine: str) -> dict[str, str]:
    return {
        "COMFYUI_URL": engine,
        "COMFY_BRIDGE_STATE_DIR": str(tmp_path / "state"),
        "COMFY_BRIDGE_LEASE_TTL_S": LEASE_TTL_S,
    }


@pytest.fixture
async def watcher(tmp_path: Path, engine: str) -> AsyncIterator[Watcher]:
    settings = load_settings(engine_urls=engine, state_dir=tmp_path / "state")
    async with open_runtime(settings, drive=False) as services:
        yield Watcher(services)
        await check_store(services.store)


async def prompts_at(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/history") as answer:
        return len(await answer.json())


async def left_running(
    tmp_path: Path, env: dict[str, str], watcher: Watcher, *, steps: int
) -> tuple[str, int]:
    """A job that runs when its bridge is killed, and how many have run with it: where one had ended before
    that, a longer one follows."""
    for tries in range(1, 5):
        async with bridge(tmp_path, env) as first:
            job = await watcher("submit_workflow", workflow=graphs.slow(steps=steps, step_ms=20))
            await watcher.until(job.workflow_id, lambda state: state.status != "queued")
            kill(first)
            await first.wait()
        if (await watcher("workflow_status", workflow_id=job.workflow_id)).status == "running":
            return job.workflow_id, tries
        steps *= 5
    raise AssertionError("even the longest had ended")


async def test_when_the_driver_is_killed_the_next_one_re_attaches_and_nothing_runs_twice(
    tmp_path: Path, env: dict[str, str], engine: str, watcher: Watcher
) -> None:
    job, sent = await left_running(tmp_path, env, watcher, steps=100)
    async with bridge(tmp_path, env):
        done = await watcher.until(job, lambda state: state.status not in {"queued", "running"})
    assert (done.status, done.attempt, len(done.outputs)) == ("completed", 1, 1)
    assert await prompts_at(engine) == sent


async def test_after_a_takeover_the_progress_of_a_run_goes_on(
    tmp_path: Path, env: dict[str, str], watcher: Watcher
) -> None:
    """By the engine's events: nobody polls within this test."""
    async with bridge(tmp_path, env, QUIET_S=600.0) as first:
        job = await watcher("submit_workflow", workflow=graphs.slow(steps=2000, step_ms=20))
        before = await watcher.until(job.workflow_id, lambda state: state.progress > 0)
        kill(first)
        await first.wait()
    async with bridge(tmp_path, env, QUIET_S=600.0):
        lost = await watcher("workflow_status", workflow_id=job.workflow_id)
        after = await watcher.until(job.workflow_id, lambda state: state.progress > lost.progress)
        assert (before.status, after.status, after.attempt) == ("running", "running", 1)
        await watcher("cancel_workflow", workflow_id=job.workflow_id)
        ended = await watcher.until(job.workflow_id, lambda state: state.status == "cancelled")
    assert ended.attempt == 1


async def test_a_job_that_ended_while_nobody_drove_gets_its_outputs(
    tmp_path: Path, env: dict[str, str], engine: str, watcher: Watcher
) -> None:
    job, sent = await left_running(tmp_path, env, watcher, steps=10)
    async with asyncio.timeout(60):
        while await prompts_at(engine) < sent:
            await asyncio.sleep(0.02)
    assert (await watcher("workflow_status", workflow_id=job)).status == "running"
    async with bridge(tmp_path, env):
        done = await watcher.until(job, lambda state: state.status not in {"queued", "running"})
    assert (done.status, len(done.outputs)) == ("completed", 1)


async def test_one_of_three_processes_drives_and_all_see_each_others_jobs(
    tmp_path: Path, env: dict[str, str], engine: str, watcher: Watcher
) -> None:
    async with bridge(tmp_path, env), bridge(tmp_path, env), bridge(tmp_path, env):
        jobs = [await watcher("submit_workflow", workflow=graphs.picture()) for _ in range(20)]
        for job in jobs:
            done = await watcher.until(job.workflow_id, lambda state: state.status == "completed")
            assert len(done.outputs) == 1
        assert await prompts_at(engine) == 20
        lease = await watcher.services.store.lease_of(watcher.services.settings.engines[0].id)
        assert lease is not None
        assert lease.live


async def test_a_cancel_from_another_process_reaches_the_engine(
    tmp_path: Path, env: dict[str, str], watcher: Watcher
) -> None:
    async with bridge(tmp_path, env):
        job = await watcher("submit_workflow", workflow=graphs.slow())
        await watcher.until(job.workflow_id, lambda state: state.status == "running")
        cancelled = await watcher("cancel_workflow", workflow_id=job.workflow_id)
        if cancelled.status != "cancelled":
            await watcher.until(job.workflow_id, lambda state: state.status == "cancelled")


async def test_an_engine_that_is_killed_and_comes_back_gets_the_job_again(
    tmp_path: Path, watcher: Watcher, engine: str
) -> None:
    dies = {"target": "comfy_mcp.embedded.execution:NodeContext.progress", "when": "after", "nth": 3}
    async with embedded_engine(tmp_path / "other", at=dies) as (process, url):
        env = {
            "COMFYUI_URL": url,
            "COMFY_BRIDGE_STATE_DIR": str(tmp_path / "state"),
        }
        async with bridge(tmp_path, env, QUIET_S=0.5, MAX_PAUSE_S=0.5):
            job = await watcher("submit_workflow", workflow=graphs.slow(steps=40, step_ms=50))
            await process.wait()
            port = int(url.rsplit(":", 1)[1].strip("/"))
            async with embedded_engine(tmp_path / "other", port=port):
                done = await watcher.until(job.workflow_id, lambda state: state.status == "completed")
    assert done.attempt == 2
    events = await watcher.services.store.events_after(0, job_id=JobId(job.workflow_id))
    assert "requeued" in [stored.event.type for stored in events]
