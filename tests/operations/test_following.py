"""A wait for the end: bounded, dropped, silent."""

import asyncio

import pytest

from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.operations import following
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.shapes import WorkflowResult
from comfy_mcp.operations.states import require_visible
from tests.operations.conftest import Bench
from tests.support import graphs


async def test_a_wait_that_times_out_leaves_the_job_running_and_says_what_to_do(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=graphs.slow())
    waited = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=0.2)
    assert waited.status in {"queued", "running"}
    assert "wait_for_workflow" in waited.next_step
    assert (await call("cancel_workflow", workflow_id=submitted.workflow_id)).status == "cancelled"


@pytest.mark.parametrize("cancel", [True, False])
async def test_a_dropped_wait_ends_the_job_only_if_asked_to(call: Bench, cancel: bool) -> None:
    submitted = await call("submit_workflow", workflow=graphs.slow())
    running = asyncio.Event()

    async def report(result: WorkflowResult) -> None:
        if result.status == "running":
            running.set()

    async with asyncio.TaskGroup() as group:
        wait = group.create_task(
            call(
                "wait_for_workflow",
                report,
                workflow_id=submitted.workflow_id,
                timeout_s=100,
                cancel_on_disconnect=cancel,
            )
        )
        await running.wait()
        wait.cancel()
    after = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=10 if cancel else 0)
    assert after.status == ("cancelled" if cancel else "running")
    await call("cancel_workflow", workflow_id=submitted.workflow_id)


async def test_a_wait_longer_than_the_longest_says_that_it_was_cut(
    call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = (await call("submit_workflow", workflow=graphs.slow())).workflow_id
    monkeypatch.setattr(following, "WAIT_MAX_S", 0.05)
    cut = await call("wait_for_workflow", workflow_id=job, timeout_s=3_600)
    assert cut.next_step.startswith("timeout_s was cut to 0.05 s")
    assert "wait_for_workflow" in cut.next_step
    await call("cancel_workflow", workflow_id=job)
    ended = await call("wait_for_workflow", workflow_id=job, timeout_s=3_600)
    assert "was cut" not in ended.text()


async def test_a_wait_in_which_nothing_happens_looks_again(
    call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_S", 0.01)
    looks: list[str] = []

    async def counted(context: OperationContext, job_id: JobId) -> Job:
        looks.append(job_id)
        if len(looks) == 3:
            await call("cancel_workflow", workflow_id=job_id)
        return await require_visible(context, job_id)

    monkeypatch.setattr(following, "require_visible", counted)
    job = (await call("submit_workflow", workflow=graphs.slow(steps=60))).workflow_id
    ended = await call("wait_for_workflow", workflow_id=job)
    assert ended.status == "cancelled"
    assert set(looks) == {job}


async def test_whoever_listens_hears_of_a_wait_in_which_nothing_happens(
    call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_S", 0.01)
    heard: list[str] = []

    async def report(state: WorkflowResult) -> None:
        heard.append(state.status)

    job = (await call("submit_workflow", workflow=graphs.slow(steps=2))).workflow_id
    done = await call("wait_for_workflow", report, workflow_id=job)
    assert done.status == "completed"
    assert len(heard) > 2
