"""Submit, follow, wait, cancel and list, through the registry."""

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.errors import BridgeError, ErrorCode, InvalidInput, NotFound
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.operations import states
from comfy_mcp.operations.shapes import WorkflowResult
from comfy_mcp.operations.views import result_of
from comfy_mcp.operations.workflows import QUEUE_SHOWN
from comfy_mcp.store import Store
from tests.operations.conftest import Bench
from tests.support import graphs

UI_FORMAT = Path(__file__).parents[1] / "data" / "ui_format"


async def code_of(call: Bench, name: str, **arguments: Any) -> ErrorCode:
    with pytest.raises(BridgeError) as caught:
        await call(name, **arguments)
    assert caught.value.message
    assert caught.value.next_step
    return caught.value.code


async def test_a_workflow_is_submitted_followed_and_gives_its_picture(call: Bench) -> None:
    seen: list[WorkflowResult] = []

    async def report(result: WorkflowResult) -> None:
        seen.append(result)

    submitted = await call("submit_workflow", workflow=graphs.slow(steps=30, step_ms=20))
    assert (submitted.status, submitted.queue_position, submitted.warnings) == ("queued", 1, [])
    done = await call("wait_for_workflow", report, workflow_id=submitted.workflow_id)

    assert done.status == "completed"
    assert (done.progress, done.error, done.current_node) == (100, None, None)
    assert done.created_time <= done.start_time <= done.completion_time
    (output,) = done.outputs
    assert output.filename == "slow_00001_.png"
    (sized,) = await call.sized(submitted.workflow_id)
    assert sized.size > 0
    assert (output.type, output.workflow_id) == ("image", submitted.workflow_id)
    assert output.url == f"/v1/comfyui/output/{output.output_id}"
    progress = [result.progress for result in seen]
    assert progress == sorted(progress)
    assert any(0 < value < 100 for value in progress)
    assert any(result.current_node == "Patience" for result in seen)
    assert "view_output" in done.text()


async def test_the_status_has_the_contracts_members_with_nulls_as_null(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=graphs.picture())
    await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    status = (await call("workflow_status", workflowId=submitted.workflow_id)).model_dump(mode="json")
    assert status.keys() >= {
        "workflowId",
        "status",
        "progress",
        "currentNode",
        "startTime",
        "completionTime",
        "outputs",
        "error",
    }
    assert status["error"] is None
    assert status["outputs"][0].keys() >= {"filename", "workflowId", "type", "size", "createdAt", "url"}


async def test_a_workflow_as_the_editor_saves_it_runs(call: Bench) -> None:
    saved = json.loads((UI_FORMAT / "subgraph_twice.json").read_text())["ui"]
    submitted = await call("submit_workflow", workflow=saved, idempotency_key="saved")
    done = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert sorted((output.node_id, output.filename) for output in done.outputs) == [
        ("4", "first_00001_.png"),
        ("7", "second_00001_.png"),
    ]
    again = await call("submit_workflow", workflow={"prompt": saved}, idempotency_key="saved")
    assert again.workflow_id == submitted.workflow_id


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, ErrorCode.INVALID_ARGUMENT),
        ({"workflow": {}, "path": "x.json"}, ErrorCode.INVALID_ARGUMENT),
        ({"workflow": [1]}, ErrorCode.INVALID_ARGUMENT),
        ({"workflow": "{not json"}, ErrorCode.GRAPH_INVALID),
        ({"workflow": "[1, 2]"}, ErrorCode.GRAPH_INVALID),
        ({"workflow": {"nodes": [], "links": []}}, ErrorCode.GRAPH_UI_FORMAT),
        ({"workflow": {"1": {"class_type": "EmptyImag", "inputs": {}}}}, ErrorCode.GRAPH_INVALID),
        (
            {"workflow": {"1": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}}},
            ErrorCode.GRAPH_INVALID,
        ),
        ({"workflow": graphs.picture(), "priority": "urgent"}, ErrorCode.INVALID_ARGUMENT),
        ({"workflow": graphs.picture(), "gpu": "salad"}, ErrorCode.LANE_UNAVAILABLE),
        ({"path": "/etc/passwd"}, ErrorCode.PATH_NOT_ALLOWED),
        ({"path": "missing.json"}, ErrorCode.PATH_UNREADABLE),
    ],
)
async def test_bad_input_is_refused_with_a_code_and_writes_nothing(
    call: Bench, arguments: dict[str, Any], code: ErrorCode
) -> None:
    assert await code_of(call, "submit_workflow", **arguments) is code
    assert (await call("list_workflows")).workflows == []


async def test_an_unknown_node_is_answered_with_the_nearest_name(call: Bench) -> None:
    with pytest.raises(InvalidInput, match="EmptyImage"):
        await call("submit_workflow", workflow={"1": {"class_type": "EmptyImag", "inputs": {}}})


async def test_a_workflow_above_the_size_limit_is_refused(call: Bench) -> None:
    graph = graphs.picture()
    graph["1"]["_meta"]["title"] = "x" * (4 * 2**20)
    assert await code_of(call, "submit_workflow", workflow=graph) is ErrorCode.TOO_LARGE
    assert await code_of(call, "submit_workflow", workflow=json.dumps(graph)) is ErrorCode.TOO_LARGE


async def test_a_workflow_comes_as_text_or_from_a_file_under_the_roots(call: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "workflows"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(graphs.picture()))
    by_path = await call("submit_workflow", path="a.json")
    by_text = await call("submit_workflow", workflow=json.dumps(graphs.picture()))
    for submitted in (by_path, by_text):
        done = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
        assert done.status == "completed"


async def test_a_repeated_submit_under_one_key_is_one_job(call: Bench) -> None:
    graph = graphs.picture()
    first = await call("submit_workflow", workflow=graph, idempotency_key="k")
    await call("wait_for_workflow", workflow_id=first.workflow_id)
    again = await call("submit_workflow", workflow=json.dumps(graph), idempotencyKey="k")
    assert again == first
    assert len((await call("list_workflows")).workflows) == 1
    other = await code_of(call, "submit_workflow", workflow=graphs.picture(), idempotency_key="k")
    assert other is ErrorCode.IDEMPOTENCY_MISMATCH


async def test_a_path_is_refused_on_a_surface_that_must_not_read_files(call: Bench) -> None:
    call.caller = type(call.caller)(client=call.caller.client, surface="test", may_read_files=False)
    assert await code_of(call, "submit_workflow", path="a.json") is ErrorCode.PATH_NOT_ALLOWED


async def test_a_broken_branch_is_a_warning_while_another_runs(call: Bench) -> None:
    graph = graphs.picture()
    graph["3"] = {"class_type": "SaveImage", "inputs": {"images": ["99", 0], "filename_prefix": "x"}}
    submitted = await call("submit_workflow", workflow=graph)
    assert len(submitted.warnings) == 1
    assert "3" in submitted.warnings[0]
    done = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert (done.status, len(done.outputs), done.warnings) == ("completed", 1, submitted.warnings)


async def test_a_failed_run_says_where_and_why(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=graphs.failing("no more paint"))
    done = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert done.status == "failed"
    assert "no more paint" in done.error
    assert (done.failure.kind, done.failure.node_type) == ("node_error", "BridgeFail")
    assert "BridgeFail" in done.text()


@pytest.mark.parametrize("name", ["workflow_status", "wait_for_workflow", "cancel_workflow"])
async def test_an_id_that_does_not_exist_is_not_found(call: Bench, name: str) -> None:
    with pytest.raises(NotFound):
        await call(name, workflow_id="00000000-0000-4000-8000-000000000000")


async def test_workflows_are_listed_newest_first_by_status_client_and_page(call: Bench) -> None:
    ids = []
    for _ in range(3):
        submitted = await call("submit_workflow", workflow=graphs.picture())
        await call("wait_for_workflow", workflow_id=submitted.workflow_id)
        ids.append(submitted.workflow_id)
    first = await call("list_workflows", limit=2)
    rest = await call("list_workflows", limit=2, cursor=first.next_cursor)
    assert [item.workflow_id for item in first.workflows + rest.workflows] == ids[::-1]
    assert rest.next_cursor is None
    assert len((await call("list_workflows", status="completed", client="tester")).workflows) == 3
    assert (await call("list_workflows", status="failed")).workflows == []
    running = await call("submit_workflow", workflow=graphs.slow())
    ended = await call("list_workflows", status="ended")
    assert [item.workflow_id for item in ended.workflows] == ids[::-1]
    await call("cancel_workflow", workflow_id=running.workflow_id)
    assert len((await call("list_workflows", status="ended")).workflows) == 4
    assert (await call("list_workflows", client="somebody")).workflows == []
    assert await code_of(call, "list_workflows", cursor="nonsense") is ErrorCode.INVALID_ARGUMENT
    assert "4" in (await call("list_workflows")).text()


async def test_the_queue_shows_what_runs_and_what_waits_in_run_order(call: Bench) -> None:
    first = await call("submit_workflow", workflow=graphs.slow())
    while (await call("workflow_status", workflow_id=first.workflow_id)).status == "queued":
        await asyncio.sleep(0.01)
    await call("submit_workflow", workflow=graphs.picture(), priority="low")
    await call("submit_workflow", workflow=graphs.picture())
    high = await call("submit_workflow", workflow=graphs.picture(), priority="high")
    view = await call("queue")
    waiting = [item for item in view.queued if item.attempt == 0]
    assert [item.priority for item in waiting] == sorted(
        (i.priority for i in waiting), key=["high", "normal", "low"].index
    )
    assert sum(view.counts.values()) == 4
    assert len(view.queued) <= QUEUE_SHOWN
    status = await call("workflow_status", workflow_id=high.workflow_id)
    assert status.queue_position is not None
    assert "position" in status.text()
    assert "queued" in view.text()
    await call("cancel_workflow", workflow_id=first.workflow_id)


async def test_without_an_engine_a_submit_is_kept_and_warns(call_without_engine: Bench) -> None:
    call = call_without_engine
    submitted = await call("submit_workflow", workflow=graphs.picture())
    again = await call("submit_workflow", workflow=graphs.picture())
    assert "No ComfyUI answers" in submitted.text()
    assert again.queue_position == 2
    assert again.warnings == submitted.warnings
    waited = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=0)
    assert waited.status == "queued"
    assert (await call("cancel_workflow", workflow_id=submitted.workflow_id)).status == "cancelled"


def _with(call: Bench, **update: Any) -> Any:
    from dataclasses import replace

    return replace(call.services, settings=call.services.settings.model_copy(update=update))


async def test_half_a_character_in_a_title_spoils_no_answer(call: Bench) -> None:
    graph = graphs.slow()
    graph["1"]["_meta"]["title"] = "half \ud83d"
    graph["9"] = {"class_type": "SaveImage", "inputs": {"images": ["no\ud83d", 0], "filename_prefix": "x"}}
    submitted = await call("submit_workflow", workflow=graph)
    assert submitted.warnings
    assert submitted.model_dump_json()
    seen: list[str] = []

    async def report(result: WorkflowResult) -> None:
        seen.append(result.model_dump_json())
        if result.current_node:
            await call("cancel_workflow", workflow_id=submitted.workflow_id)

    done = await call("wait_for_workflow", report, workflow_id=submitted.workflow_id)
    assert done.status == "cancelled"
    assert any("half " in text for text in seen)


class Forgetful:
    """A store that forgets each workflow between the question for its owner and the one for its graph."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get_graph(self, job_id: JobId) -> None:
        return None


async def test_a_graph_that_is_deleted_while_it_is_asked_for_is_not_found(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=graphs.text())
    await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    store = Forgetful(call.services.store)
    forgetful = Bench(replace(call.services, store=store), call.caller)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        await forgetful("workflow_graph", workflow_id=submitted.workflow_id)


async def test_mine_lists_what_the_caller_submitted(call: Bench) -> None:
    job = (await call("submit_workflow", workflow=graphs.picture())).workflow_id
    other = Bench(call.services, replace(call.caller, client=ClientId("somebody")))
    theirs = (await other("submit_workflow", workflow=graphs.picture())).workflow_id
    listed = await call("list_workflows", mine=True)
    assert [item.workflow_id for item in listed.workflows] == [job]
    assert {item.workflow_id for item in (await call("list_workflows")).workflows} == {job, theirs}


async def test_a_result_from_the_cache_says_that_nothing_was_run(call: Bench) -> None:
    said, graph = [], graphs.slow(steps=1, step_ms=1)
    for _ in range(2):
        job = (await call("submit_workflow", workflow=graph)).workflow_id
        end = await call("wait_for_workflow", workflow_id=job, timeout_s=20)
        assert end.status == "completed"
        said.append("in its cache and ran nothing" in end.text())
    assert said == [False, True]


async def test_a_workflow_with_very_many_outputs_is_shown_beside_the_loop(
    call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await call("submit_workflow", workflow=graphs.picture())
    await call("wait_for_workflow", workflow_id=job.workflow_id)
    threads = set[int]()

    def watched(*args: Any) -> Any:
        threads.add(threading.get_ident())
        return result_of(*args)

    monkeypatch.setattr(states, "result_of", watched)
    for many, here in ((1, True), (0, False)):
        monkeypatch.setattr(states, "MANY_OUTPUTS", many)
        threads.clear()
        state = await call("workflow_status", workflow_id=job.workflow_id)
        assert (state.status, len(state.outputs)) == ("completed", 1)
        assert (threads == {threading.get_ident()}) is here
