"""What travels with a job: the file as submitted, to the engine and back to the client."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.errors import Conflict, LimitExceeded, NotFound
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.shapes import GraphResult
from tests.operations.conftest import Bench
from tests.support import graphs


def saved() -> dict[str, Any]:
    """EmptyImage → SaveImage as the editor saves it."""
    return {
        "last_node_id": 2,
        "nodes": [
            {
                "id": 1,
                "type": "EmptyImage",
                "pos": [12, 34],
                "inputs": [],
                "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
                "widgets_values": [64, 64, 1, 77],
            },
            {
                "id": 2,
                "type": "SaveImage",
                "pos": [56, 78],
                "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
                "outputs": [],
                "widgets_values": ["t/saved"],
            },
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
        "extra": {"ds": {"scale": 1.5}},
        "version": 0.4,
    }


async def chunks(call: Bench, workflow_id: str, tmp_path: Path) -> dict[str, Any]:
    """The graphs in the picture that a workflow has made."""
    done = await call("wait_for_workflow", workflow_id=workflow_id, timeout_s=30)
    assert done.status == "completed", done.error
    (output,) = done.outputs
    content = await call("read_output", output_id=output.output_id)
    (tmp_path / "made.png").write_bytes(content.data)
    with Image.open(tmp_path / "made.png") as image:
        return {
            name: json.loads(text)
            for name, text in image.info.items()
            if name in {"prompt", "workflow", "note"}
        }


async def test_a_picture_carries_the_file_that_the_editor_saved(call: Bench, tmp_path: Path) -> None:
    submitted = await call("submit_workflow", workflow=saved())
    found = await chunks(call, submitted.workflow_id, tmp_path)
    assert found["workflow"] == saved()
    graph: GraphResult = await call("workflow_graph", workflow_id=submitted.workflow_id)
    assert graph.file == saved()
    assert graph.graph == found["prompt"]
    assert (
        graph.text()
        == f"Workflow {graph.workflow_id}: a graph of 2 node(s), converted from the file that was submitted."
    )


async def test_of_a_graph_in_api_format_no_file_is_invented(call: Bench, tmp_path: Path) -> None:
    api = graphs.picture()
    submitted = await call("submit_workflow", workflow=api)
    assert set(await chunks(call, submitted.workflow_id, tmp_path)) == {"prompt"}
    graph: GraphResult = await call("workflow_graph", workflow_id=submitted.workflow_id)
    assert (graph.graph, graph.file) == (api, None)
    assert graph.text() == f"Workflow {graph.workflow_id}: a graph of 2 node(s)."


@pytest.mark.parametrize("as_argument", [True, False])
async def test_what_is_sent_beside_a_graph_reaches_the_nodes(
    call: Bench, tmp_path: Path, as_argument: bool
) -> None:
    api, beside = graphs.picture(), {"extra_pnginfo": {"workflow": saved(), "note": "x"}}
    submitted = (
        await call("submit_workflow", workflow=api, extra_data=beside)
        if as_argument
        else await call("submit_workflow", workflow={"prompt": api, "extra_data": beside})
    )
    found = await chunks(call, submitted.workflow_id, tmp_path)
    assert (found["workflow"], found["note"]) == (saved(), "x")
    graph: GraphResult = await call("workflow_graph", workflow_id=submitted.workflow_id)
    assert graph.file == {"prompt": api, "extra_data": beside}


async def test_a_job_that_waits_keeps_its_file(call: Bench, tmp_path: Path) -> None:
    await call("submit_workflow", workflow=graphs.slow(steps=5))
    waiting = [await call("submit_workflow", workflow=saved()) for _ in range(3)]
    assert (await chunks(call, waiting[-1].workflow_id, tmp_path))["workflow"] == saved()


async def test_a_retry_has_the_file_of_the_first(call: Bench) -> None:
    for _ in range(call.services.settings.pipeline_depth):  # so no engine has the next one
        await call("submit_workflow", workflow=graphs.slow())
    first = await call("submit_workflow", workflow=saved())
    await call("cancel_workflow", workflow_id=first.workflow_id)
    again = await call("retry_workflow", workflow_id=first.workflow_id)
    graph: GraphResult = await call("workflow_graph", workflow_id=again.workflow_id)
    assert graph.file == saved()


@pytest.mark.parametrize("_", range(8))
async def test_a_cancel_right_behind_a_submit_is_not_lost(call: Bench, _: int) -> None:
    """The job may be claimed, and not yet be sent. The run before it takes longer than the test may."""
    await call("submit_workflow", workflow=graphs.slow(steps=10_000))
    second = await call("submit_workflow", workflow=graphs.picture())
    await call("cancel_workflow", workflow_id=second.workflow_id)
    ended = await call("wait_for_workflow", workflow_id=second.workflow_id, timeout_s=30)
    assert ended.status == "cancelled"


async def test_a_key_in_a_body_is_not_kept_and_the_client_is_told(call: Bench) -> None:
    beside = {"api_key_comfy_org": "comfyui-secret"}
    submitted = await call("submit_workflow", workflow=graphs.picture(), extra_data=beside)
    assert submitted.warnings[0].startswith("extra_data.api_key_comfy_org is not sent to the engine")
    graph: GraphResult = await call("workflow_graph", workflow_id=submitted.workflow_id)
    assert graph.file is None


async def test_one_idempotency_key_stands_for_one_extra_data(call: Bench) -> None:
    api = graphs.picture()
    one: dict[str, Any] = {"workflow": api, "extra_data": {"preview_method": "none"}, "idempotency_key": "k"}
    first = await call("submit_workflow", **one)
    assert (await call("submit_workflow", **one)).workflow_id == first.workflow_id
    with pytest.raises(Conflict):
        await call("submit_workflow", **one | {"extra_data": {"preview_method": "auto"}})


async def test_extra_data_counts_in_the_size(call: Bench) -> None:
    most = call.services.settings.max_graph_bytes
    with pytest.raises(LimitExceeded):
        await call(
            "submit_workflow", workflow=graphs.picture(), extra_data={"extra_pnginfo": {"a": "x" * most}}
        )


async def test_a_graph_is_its_clients_own(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=graphs.picture())
    ben = Caller(client=ClientId("ben"), surface="http", rights=DEFAULT_KEY_RIGHTS)
    for name, caller in ((submitted.workflow_id, ben), ("nobody's", call.caller)):
        with pytest.raises(NotFound):
            await Bench(call.services, caller)("workflow_graph", workflow_id=name)


async def test_a_repeat_that_asks_for_another_engine_is_another_submit(call: Bench) -> None:
    engine = call.services.settings.engines[0].id
    asked: dict[str, Any] = {"workflow": graphs.picture(), "idempotency_key": "k", "engine": engine}
    once = await call("submit_workflow", **asked)
    assert (await call("submit_workflow", **asked)).workflow_id == once.workflow_id
    with pytest.raises(Conflict):
        await call("submit_workflow", **asked | {"engine": None})


async def test_tags_are_part_of_what_was_submitted_and_a_retry_keeps_them(call: Bench) -> None:
    given: dict[str, Any] = {
        "workflow": graphs.failing(),
        "tags": {"run": "1", "client": "acme"},
        "idempotency_key": "k",
    }
    first = await call("submit_workflow", **given)
    assert (await call("submit_workflow", **given)).workflow_id == first.workflow_id
    with pytest.raises(Conflict):
        await call("submit_workflow", **given | {"tags": {"run": "2"}})
    await call("wait_for_workflow", workflow_id=first.workflow_id, timeout_s=20)
    again = await call("retry_workflow", workflow_id=first.workflow_id)
    for tag in ("run=1", "client=acme"):
        found = (await call("list_workflows", tag=tag)).workflows
        assert [each.workflow_id for each in found] == [again.workflow_id, first.workflow_id]
        assert found[0].tags == given["tags"]
    assert (await call("list_workflows", tag="run=2")).workflows == []
