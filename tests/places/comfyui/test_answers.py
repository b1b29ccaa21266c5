"""The engine's JSON answers as values."""

from typing import Any

import pytest

from comfy_mcp.domain.catalog import Model
from comfy_mcp.domain.events import FailureKind
from comfy_mcp.domain.ids import PromptId
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.places.comfyui import answers
from comfy_mcp.places.comfyui.answers import WireFault
from comfy_mcp.places.protocol import QueueView, UploadedFile
from tests.support import recordings

P = PromptId("p")
HISTORIES = [
    (name, line.path.rpartition("/")[2], line.body)
    for name in recordings.ALL
    for line in recordings.exchanges(name)
    if line.path.startswith("/history/") and isinstance(line.body, dict) and line.body
]


@pytest.mark.parametrize(("name", "prompt_id", "body"), HISTORIES)
def test_every_recorded_history_entry_is_a_result(name: str, prompt_id: str, body: Any) -> None:
    result = answers.prompt_result(body, PromptId(prompt_id))
    assert result is not None
    last = body[prompt_id]["status"]["messages"][-1][0]
    assert result.ending == {
        "execution_success": PromptEnding.SUCCESS,
        "execution_error": PromptEnding.ERROR,
        "execution_interrupted": PromptEnding.INTERRUPTED,
    }.get(last)
    assert (result.failure is not None) == (result.ending is PromptEnding.ERROR)


def test_an_interrupted_run_is_not_taken_for_a_failure_although_its_status_says_error() -> None:
    entries = [body for name, _, body in HISTORIES if name.startswith("07")]
    [entry] = [entry for body in entries[:1] for entry in body.values()]
    assert entry["status"]["status_str"] == "error"
    result = answers.prompt_result({P: entry}, P)
    assert result == PromptResult(ending=PromptEnding.INTERRUPTED, outputs=())


def test_point_11_no_entry_means_pending_running_or_unknown() -> None:
    assert answers.prompt_result({}, P) is None


def test_a_failed_run_keeps_what_it_wrote_before() -> None:
    entry = {
        "outputs": {"1": {"images": [{"filename": "a.png"}]}},
        "status": {"status_str": "error", "messages": [["execution_error", {"exception_message": "bad"}]]},
    }
    result = answers.prompt_result({P: entry}, P)
    assert result is not None
    assert [file.filename for file in result.outputs] == ["a.png"]
    assert result.failure is not None
    assert result.failure.message == "bad"


@pytest.mark.parametrize("messages", [None, [], ["x"], [["execution_error", None]], [[1, 2, 3]]])
def test_a_failed_run_without_a_word_is_a_failure_all_the_same(messages: Any) -> None:
    result = answers.prompt_result({P: {"status": {"status_str": "error", "messages": messages}}}, P)
    assert result is not None
    assert result.failure is not None
    assert result.failure.kind is FailureKind.NODE_ERROR
    assert result.failure.message


def test_an_entry_of_an_old_engine_without_status_is_a_success() -> None:
    assert answers.prompt_result({P: {"outputs": {}, "status": None}}, P) == PromptResult(
        ending=PromptEnding.SUCCESS, outputs=()
    )


def test_pending_prompts_are_in_the_order_of_execution() -> None:
    body = {"queue_running": [[5, "r", {}]], "queue_pending": [[9, "c"], [-1e9, "a"], [9, "b"]]}
    assert answers.queue_view(body) == QueueView(
        running=(PromptId("r"),), pending=(PromptId("a"), PromptId("b"), PromptId("c"))
    )


def test_recorded_queues_are_read() -> None:
    bodies = [
        line.body
        for name in recordings.ALL
        for line in recordings.exchanges(name)
        if (line.method, line.path, line.status) == ("GET", "/queue", 200)
    ]
    views = [answers.queue_view(body) for body in bodies]
    assert [len(view.pending) for view in views] == [len(body["queue_pending"]) for body in bodies]
    assert any(view.running for view in views)
    assert any(view.pending for view in views)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"queue_running": [], "queue_pending": {}},
        *({"queue_running": [item], "queue_pending": []} for item in ["x", [1], ["1", "id"], [1, 2], None]),
    ],
)
def test_a_queue_of_another_shape_is_a_wire_fault(body: Any) -> None:
    with pytest.raises(WireFault):
        answers.queue_view(body)


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (answers.accepted, {}),
        (answers.accepted, "ok"),
        (answers.rejected, {}),
        (answers.rejected, None),
        (answers.queue_remaining, {"exec_info": {"queue_remaining": "2"}}),
        (answers.queue_remaining, {"exec_info": None}),
        (answers.uploaded, {"name": None}),
        (answers.model_names, {}),
        (lambda body: answers.models_of(body, "loras"), "x"),
        (lambda body: answers.json_object(body, "GET /x"), []),
        (lambda body: answers.prompt_result(body, P), []),
        (lambda body: answers.prompt_result(body, P), {"p": "x"}),
    ],
)
def test_an_answer_of_another_shape_is_a_wire_fault(read: Any, body: Any) -> None:
    with pytest.raises(WireFault):
        read(body)


def test_a_refusal_is_a_value() -> None:
    answer = answers.rejected({"error": {"message": "Prompt has no outputs"}, "node_errors": {}})
    assert answer.failure.message == "Prompt has no outputs"


def test_models_have_size_and_time_where_the_engine_says_them() -> None:
    body = [
        {"name": "a.safetensors", "pathIndex": 0, "modified": 1.5, "created": 1, "size": 7},
        {"name": "b", "modified": float("inf"), "size": None},
        {"pathIndex": 0},
        "c",
    ]
    assert answers.models_of(body, "loras") == (
        Model(name="a.safetensors", type="loras", size=7, modified_at=1500),
        Model(name="b", type="loras"),
    )
    assert answers.model_names(["a", 1, "b"]) == ("a", "b")


def test_an_upload_has_the_name_that_the_engine_chose() -> None:
    body = {"name": "up (1).png", "subfolder": "s", "type": "temp"}
    assert answers.uploaded(body) == UploadedFile(name="up (1).png", subfolder="s", folder_type="temp")
    assert answers.uploaded({"name": "a"}) == UploadedFile(name="a", subfolder="", folder_type="input")


def test_the_count_of_the_queue_is_read() -> None:
    assert answers.queue_remaining({"exec_info": {"queue_remaining": 3}}) == 3
