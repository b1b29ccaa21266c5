"""What an agent gets of a result: few tokens, nothing that matters left out."""

import json
from typing import Any
from uuid import UUID

import pytest

from comfy_mcp.operations.brief import (
    CONTENT_LIMIT,
    GRAPH_CHARS,
    QUEUE_SHOWN,
    SNIPPET,
    bounded,
    brief,
    short_id,
)
from comfy_mcp.operations.shapes import (
    DryRunResult,
    FailureItem,
    GraphResult,
    ModelItem,
    ModelsResult,
    OutputItem,
    OutputsResult,
    QueueResult,
    Result,
    ViewResult,
    WorkflowResult,
    WorkflowsResult,
)
from comfy_mcp.operations.views import OUTPUTS_SHOWN

BYTES_PER_TOKEN = {
    OutputsResult: 2.8,
    WorkflowsResult: 2.7,
    WorkflowResult: 2.4,
    ModelsResult: 2.9,
    QueueResult: 2.7,
}
"""Of o200k_base in such JSON, which is mostly ids, times and keys. Measured: 0.05 to 0.1 more than this."""


def uuid(number: int) -> str:
    """Digits as unlike each other as those of a random one."""
    return str(UUID(int=(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128))


def output(number: int, *, workflow: int = 0, **more: Any) -> OutputItem:
    made: dict[str, Any] = {
        "output_id": uuid(number),
        "filename": f"ComfyUI_{number:05d}_.png",
        "workflow_id": uuid(1_000_000 + workflow),
        "type": "image",
        "size": 1_345_678 + number,
        "created_at": 1_764_412_345_678 + number,
        "url": f"/v1/comfyui/output/{uuid(number)}",
        "uri": f"comfy://outputs/{uuid(number)}",
        "node_id": "9",
        "media_type": "image/png",
    }
    return OutputItem(**(made | more))


def job(number: int, *, outputs: int = 1, **more: Any) -> WorkflowResult:
    made: dict[str, Any] = {
        "workflow_id": uuid(1_000_000 + number),
        "status": "completed",
        "queue_position": None,
        "progress": 100,
        "current_node": None,
        "start_time": 1_764_412_345_678,
        "completion_time": 1_764_412_349_678,
        "outputs": [output(each, workflow=number) for each in range(outputs)],
        "output_count": outputs,
        "error": None,
        "failure": None,
        "priority": "normal",
        "client": "local",
        "engine": "default",
        "attempt": 1,
        "created_time": 1_764_412_345_600 + number,
    }
    return WorkflowResult(**(made | more))


def model(number: int) -> ModelItem:
    name = f"sd_xl_base_1.{number}.safetensors"
    return ModelItem(name=name, type="checkpoints", size=6_938_078_334 + number, hash="a1b2" * 16)


CURSOR = "WzE3NjQ0MTIzNDUsIDEyM10="
JOBS = [job(number, outputs=38) for number in range(200)]


@pytest.mark.parametrize(
    ("tokens", "result"),
    [
        (8_000, OutputsResult(outputs=[output(each) for each in range(200)], next_cursor=CURSOR)),
        (1_000, OutputsResult(outputs=[output(each) for each in range(20)], next_cursor=CURSOR)),
        (4_000, WorkflowsResult(workflows=JOBS[:50], next_cursor=CURSOR)),
        (14_000, WorkflowsResult(workflows=JOBS, next_cursor=CURSOR)),
        (2_000, job(1, outputs=100)),
        (7_000, ModelsResult(models=[model(each) for each in range(200)], types=["checkpoints"], total=200)),
        (4_000, QueueResult(running=JOBS, queued=JOBS, counts={"completed": 1})),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Result) else str(value),
)
def test_a_result_has_no_more_tokens_than_this(tokens: int, result: Result) -> None:
    text = json.dumps(brief(result), ensure_ascii=False, separators=(",", ":"))
    assert len(text.encode()) / BYTES_PER_TOKEN[type(result)] <= tokens


def test_an_entry_has_what_one_chooses_by() -> None:
    failed = job(
        7,
        outputs=0,
        status="failed",
        progress=30,
        error="e" * 5_000,
        failure=FailureItem(kind="oom", message="e" * 5_000),
    )
    running = job(8, outputs=0, status="running", progress=12.5)
    shown = brief(WorkflowsResult(workflows=[failed, running], next_cursor=CURSOR, warnings=["w"]))
    assert shown["nextCursor"] == CURSOR
    assert shown["warnings"] == ["w"]
    first, second = shown["workflows"]
    assert {
        "workflowId": failed.workflow_id,
        "status": "failed",
        "createdTime": failed.created_time,
    }.items() <= (first.items())
    assert len(first["error"]) == SNIPPET
    assert "progress" not in first
    assert second["progress"] == 12.5
    assert "error" not in second


def test_full_entries_have_everything_that_is_known() -> None:
    outputs = OutputsResult(outputs=[output(3)])
    (short,), (whole,) = brief(outputs)["outputs"], brief(outputs.with_fields("full"))["outputs"]
    assert short == {
        "outputId": uuid(3)[:8],
        "filename": "ComfyUI_00003_.png",
        "type": "image",
        "createdAt": 1_764_412_345_681,
    }
    assert whole["outputId"] == uuid(3)
    assert {"url", "uri", "size", "nodeId", "mediaType", "workflowId"} <= set(whole)
    models = ModelsResult(models=[model(1)], types=[])
    assert "hash" not in brief(models)["models"][0]
    assert brief(models.with_fields("full"))["models"][0]["hash"] == "a1b2" * 16
    (one,) = brief(WorkflowsResult(workflows=[job(2, outputs=100)]).with_fields("full"))["workflows"]
    assert one["priority"] == "normal"
    assert len(one["outputs"]) == OUTPUTS_SHOWN
    assert "full" not in json.dumps(brief(outputs))


def test_texts_are_cut_to_what_a_list_can_take() -> None:
    texts = [output(each, type="text", filename="", content="x" * 100_000) for each in range(50)]
    listed = brief(OutputsResult(outputs=texts))["outputs"]
    assert {len(each["content"]) for each in listed} == {SNIPPET}
    assert "filename" not in listed[0]
    whole = brief(OutputsResult(outputs=texts).with_fields("full"))["outputs"]
    assert sum(len(each["content"]) for each in whole) <= CONTENT_LIMIT
    few = brief(OutputsResult(outputs=[output(1, type="text", filename="", content="a haiku")]))["outputs"]
    assert few[0]["content"] == "a haiku"


def test_the_queue_shows_the_first_of_each_kind_and_counts_all() -> None:
    shown = brief(QueueResult(running=JOBS, queued=JOBS, counts={"queued": 200}))
    assert (len(shown["running"]), len(shown["queued"])) == (QUEUE_SHOWN, QUEUE_SHOWN)
    assert shown["counts"] == {"queued": 200}


def test_a_graph_s_own_nulls_stay() -> None:
    graph = {"1": {"class_type": "A", "inputs": {"x": None, "y": [], "z": ""}}}
    assert brief(DryRunResult(status="not_queued", node_count=1, run_count=1, graph=graph)) == {
        "status": "not_queued",
        "nodeCount": 1,
        "runCount": 1,
        "graph": graph,
    }


def test_a_large_graph_is_shown_without_the_file_that_it_was_made_from() -> None:
    graph = {"1": {"class_type": "A", "inputs": {}}}
    small = GraphResult(workflow_id="w", graph=graph, file={"nodes": []})
    assert brief(small)["file"] == {"nodes": []}
    large = GraphResult(workflow_id="w", graph=graph, file={"nodes": "x" * GRAPH_CHARS})
    assert "file" not in brief(large)
    assert "too large" in brief(large)["warnings"][0]


def test_a_view_says_a_text_once() -> None:
    item = output(1, type="text", filename="", content="a haiku")
    shown = brief(ViewResult(output=item, note="a haiku"))
    assert shown["note"] == "a haiku"
    assert "content" not in shown["output"]
    assert brief(ViewResult(output=output(2)))["output"]["filename"] == "ComfyUI_00002_.png"


def test_only_what_is_a_uuid_is_shortened() -> None:
    assert short_id(uuid(1)) == uuid(1)[:8]
    assert short_id("o_3f9a1c77aa") == "o_3f9a1c77aa"


def test_a_long_failure_is_cut() -> None:
    long = job(1, error="e" * 100_000, failure=FailureItem(kind="oom", message="e" * 100_000))
    shown = bounded(long)
    assert isinstance(shown, WorkflowResult)
    assert len(json.dumps(brief(long))) < 10_000
