"""GET and DELETE /v1/comfyui/workflow/{workflowId}: the state of a job, its end, its cancellation."""

import asyncio
from pathlib import Path

import pytest

from tests.contract_v1.shapes import assert_problem, is_ms
from tests.support.graphs import failing, picture, slow, text
from tests.support.sidecar import WORKFLOW, Sidecar, open_sidecar

MEMBERS = {
    "workflowId",
    "status",
    "progress",
    "currentNode",
    "startTime",
    "completionTime",
    "outputs",
    "error",
}
LIFECYCLE = {"queued": 0, "running": 1, "completed": 2, "failed": 2, "cancelled": 2}


async def test_a_queued_workflow_has_nulls_for_what_is_not_known_yet(tmp_path: Path) -> None:
    """The earlier service sent "" and 0 instead."""
    async with open_sidecar(tmp_path, engine_url="http://127.0.0.1:9") as v1:
        job = await v1.submit(picture())
        answer = await v1("GET", f"{WORKFLOW}/{job}")
    assert answer.status == 200
    assert {name: answer.body[name] for name in MEMBERS} == {
        "workflowId": job,
        "status": "queued",
        "progress": 0,
        "currentNode": None,
        "startTime": None,
        "completionTime": None,
        "outputs": [],
        "error": None,
    }


async def test_a_running_workflow_shows_its_node_and_percent(v1: Sidecar) -> None:
    job = await v1.submit(slow())
    await v1.until_running(job)
    with v1.services.hub.subscribe() as events:
        while not (body := (await v1("GET", f"{WORKFLOW}/{job}")).body)["currentNode"]:
            await events.changed()
    assert body["status"] == "running"
    assert body["currentNode"] == "Patience"
    assert 0 <= body["progress"] < 100
    assert is_ms(body["startTime"])
    assert (body["completionTime"], body["outputs"], body["error"]) == (None, [], None)
    await v1("DELETE", f"{WORKFLOW}/{job}")


async def test_a_completed_workflow_has_outputs_and_times_in_milliseconds(v1: Sidecar) -> None:
    job = await v1.submit(picture("v1/done"))
    body = await v1.ended(job)
    assert body == (await v1("GET", f"{WORKFLOW}/{job}")).body
    assert set(body) >= MEMBERS
    assert (body["workflowId"], body["status"], body["progress"]) == (job, "completed", 100)
    assert (body["currentNode"], body["error"]) == (None, None)
    assert is_ms(body["startTime"])
    assert is_ms(body["completionTime"])
    assert body["startTime"] <= body["completionTime"]
    [output] = body["outputs"]
    assert (output["type"], output["workflowId"]) == ("image", job)
    assert (await v1("GET", output["url"])).data.startswith(b"\x89PNG")


async def test_a_failed_workflow_says_why(v1: Sidecar) -> None:
    body = await v1.ended(await v1.submit(failing("boom")))
    assert body["status"] == "failed"
    assert "boom" in body["error"]
    assert "Traceback" not in body["error"]
    assert is_ms(body["completionTime"])


async def test_a_text_output_is_no_defect(v1: Sidecar) -> None:
    [output] = (await v1.ended(await v1.submit(text("words"))))["outputs"]
    assert output["type"] == "text"
    assert (await v1("GET", output["url"])).data.startswith(b"words")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_workflow_that_does_not_exist_is_404_to_the_letter(v1: Sidecar, method: str) -> None:
    answer = await v1(method, f"{WORKFLOW}/nope")
    assert_problem(answer, 404, "Not Found", "Workflow nope not found")


async def test_a_queued_workflow_is_cancelled_and_cancelled_again(v1: Sidecar) -> None:
    running = await v1.submit(slow())
    await v1.until_running(running)
    job = await v1.submit(slow())
    for _ in range(3):
        answer = await v1("DELETE", f"{WORKFLOW}/{job}")
        assert answer.status == 200
        assert (answer.body["workflowId"], answer.body["status"]) == (job, "cancelled")
    await v1("DELETE", f"{WORKFLOW}/{running}")


async def test_a_running_workflow_that_was_cancelled_stays_cancelled(v1: Sidecar) -> None:
    """In the earlier service it later turned "completed"."""
    job = await v1.submit(slow())
    await v1.until_running(job)
    answer = await v1("DELETE", f"{WORKFLOW}/{job}")
    assert (answer.status, answer.body["status"]) == (200, "cancelled")
    # The engine has finished what comes after it: a late word about the first would have been heard.
    await v1.ended(await v1.submit(picture()))
    body = (await v1("GET", f"{WORKFLOW}/{job}")).body
    assert (body["status"], body["error"]) == ("cancelled", None)
    assert is_ms(body["completionTime"])


@pytest.mark.parametrize(("graph", "status"), [(picture(), "completed"), (failing(), "failed")])
async def test_what_has_ended_cannot_be_cancelled(v1: Sidecar, graph: dict[str, object], status: str) -> None:
    job = await v1.submit(graph)
    await v1.ended(job)
    answer = await v1("DELETE", f"{WORKFLOW}/{job}")
    body = assert_problem(answer, 409, "Conflict", "Workflow cannot be cancelled")
    assert body["currentStatus"] == status
    assert (await v1("GET", f"{WORKFLOW}/{job}")).body["status"] == status, "nothing leaves a final state"


async def test_polling_sees_the_lifecycle_go_forward_only(v1: Sidecar) -> None:
    job = await v1.submit(slow(steps=20, step_ms=5))
    seen: list[tuple[int, float]] = []
    with v1.services.hub.subscribe() as events:
        while not seen or seen[-1][0] < 2:
            body = (await v1("GET", f"{WORKFLOW}/{job}")).body
            seen.append((LIFECYCLE[body["status"]], body["progress"]))
            if seen[-1][0] < 2:
                await events.changed()
    assert seen == sorted(seen)
    assert seen[-1] == (2, 100)


async def test_jobs_outlive_the_service(tmp_path: Path) -> None:
    """In the earlier service they lived in memory only."""
    async with open_sidecar(tmp_path / "one", state_dir=tmp_path / "state") as v1:
        job = await v1.submit(picture())
        await v1.ended(job)
        before = await v1.measured(job)
    async with open_sidecar(tmp_path / "two", state_dir=tmp_path / "state") as v1:
        assert (await v1("GET", f"{WORKFLOW}/{job}")).body == before


async def test_many_clients_at_once_each_get_their_own(v1: Sidecar) -> None:
    async with asyncio.TaskGroup() as group:
        submits = [group.create_task(v1.submit(picture(f"v1/{number}"))) for number in range(20)]
    ended = [await v1.ended(submit.result()) for submit in submits]
    assert [body["outputs"][0]["filename"].rsplit("_", 2)[0] for body in ended] == [
        str(number) for number in range(20)
    ]
