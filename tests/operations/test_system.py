"""What the machines are doing, through the registry."""

from dataclasses import replace

import aiohttp
import pytest

from comfy_mcp.domain.catalog import Output, OutputFile, OutputKind
from comfy_mcp.domain.events import FailureKind, JobFailure, JobQueued, Priority
from comfy_mcp.domain.ids import ClientId, EngineId, JobId, NodeId, OutputId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.transitions import queued
from comfy_mcp.embedded import EmbeddedEngine
from comfy_mcp.operations import states
from comfy_mcp.operations.registry import OPERATIONS
from comfy_mcp.operations.shapes import Result
from comfy_mcp.operations.views import media_type, next_step, workflow_result
from tests.operations.conftest import Bench
from tests.support import graphs


async def test_the_status_names_the_engine_and_says_that_it_is_not_comfyui(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=graphs.picture())
    await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    status = await call("system_status")
    (engine,) = status.engines
    assert (engine.up, engine.is_comfyui, engine.driven_by) == (True, False, "this process")
    assert engine.version
    assert status.jobs["completed"] == 1
    assert status.problems == []
    assert status.store.path.endswith("bridge.sqlite3")
    assert "up" in status.text()


async def test_a_down_engine_is_a_report_with_a_fix_and_no_error(call_without_engine: Bench) -> None:
    status = await call_without_engine("system_status")
    (engine,) = status.engines
    assert (engine.up, engine.version) == (False, None)
    assert engine.error
    assert "COMFYUI_URL" in status.text()
    assert "down" in status.text()


async def test_no_gpu_is_a_normal_answer(call_without_engine: Bench) -> None:
    gpu = await call_without_engine("gpu_status")
    assert isinstance(gpu.available, bool)
    assert gpu.text()


def test_a_file_without_a_known_suffix_is_bytes() -> None:
    output = Output(
        id=OutputId("o"),
        job_id=JobId("j"),
        attempt=1,
        engine=EngineId("e"),
        file=OutputFile(kind=OutputKind.FILE, filename="thing"),
        created_at=0,
    )
    assert media_type(output) == "application/octet-stream"


def waiting_job() -> Job:
    return queued(
        JobQueued(
            job_id=JobId("j"), at=0, client=ClientId("c"), lane="local", priority=Priority.LOW, node_count=1
        )
    )


def test_a_cancelled_job_needs_no_next_step() -> None:
    job = waiting_job()
    assert next_step(job, ()) is not None
    assert next_step(replace(job, status=JobStatus.CANCELLED), ()) is None
    assert "cancelled" in result_of(replace(job, status=JobStatus.CANCELLED))


def test_every_result_has_a_line_for_agents() -> None:
    with pytest.raises(NotImplementedError):
        Result().text()
    assert all(operation.result.text is not Result.text for operation in OPERATIONS)


def result_of(job: Job) -> str:
    return workflow_result(job, ()).text()


def test_a_running_job_is_told_with_its_node_and_the_time_that_is_left() -> None:
    job = replace(waiting_job(), status=JobStatus.RUNNING, progress=0.426)
    assert "running, 43 %." in result_of(job)
    told = result_of(replace(job, current_node="5", current_node_title="KSampler", eta_ms=12_400))
    assert "43 % at KSampler, about 12 s left" in told


def test_a_failure_is_told_with_its_node_where_there_is_one() -> None:
    failure = JobFailure(kind=FailureKind.ENGINE_LOST, message="gone")
    job = replace(waiting_job(), status=JobStatus.FAILED, failure=failure)
    assert "engine_lost: gone" in result_of(job)
    in_node = replace(failure, node_id=NodeId("3"), node_type="KSampler")
    assert "in node 3 (KSampler)" in result_of(replace(job, failure=in_node))


def test_a_job_that_completed_without_outputs_says_so() -> None:
    assert "without outputs" in result_of(replace(waiting_job(), status=JobStatus.COMPLETED))


def test_names_are_unique_and_read_only_operations_are_not_destructive() -> None:
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert not any(operation.read_only and operation.destructive for operation in OPERATIONS)


async def test_prompts_of_other_people_are_counted(engine: EmbeddedEngine, call: Bench) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{engine.url}/prompt", json={"prompt": graphs.slow()}),
    ):
        status = await call("system_status")
    assert status.foreign_prompts == 1
    assert "and 1 submitted in ComfyUI itself" in status.text()


async def test_a_running_job_has_a_time_left_with_a_range_or_none(call: Bench) -> None:
    job = (await call("submit_workflow", workflow=graphs.slow())).workflow_id
    view = await call.services.store.view_job(JobId(job))
    assert view is not None
    now = call.services.now_ms()
    running = replace(view.job, status=JobStatus.RUNNING, eta_ms=60_000, progress_at=now)
    shown = states._aged(call.services, running, workflow_result(running, ()))
    assert shown.eta_ms is not None
    assert shown.eta_range_ms is not None
    low, high = shown.eta_range_ms
    assert low < shown.eta_ms < high
    assert f"({round(low / 1000)} to {round(high / 1000)}) left" in shown.text()
    old = replace(running, progress_at=now - 90_000)
    none = states._aged(call.services, old, workflow_result(old, ()))
    assert (none.eta_ms, none.eta_range_ms) == (None, None)
    assert " left" not in none.text()
    await call("cancel_workflow", workflow_id=job)
