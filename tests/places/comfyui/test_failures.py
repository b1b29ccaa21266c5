"""Failures of the engine as short causes with a bounded, blanked detail."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.events import FailureKind, JobFailure
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.places.comfyui.failures import (
    MAX_CAUSE_CHARS,
    MAX_DETAIL_CHARS,
    MAX_READ,
    dropped_branches,
    execution_failure,
    validation_failure,
)
from tests.support import recordings


@pytest.mark.parametrize(
    ("exception_type", "message"),
    [
        ("torch.OutOfMemoryError", "Allocation on device 0 would exceed allowed memory. (out of memory)"),
        ("torch.OutOfMemoryError", "Allocation on device \nThis error means you ran out of memory."),
        ("torch.cuda.OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB."),
        ("torch.OutOfMemoryError", "HIP out of memory. Tried to allocate 20.00 MiB."),
        ("RuntimeError", "MPS backend out of memory (MPS allocated: 9.05 GB, max allowed: 9.07 GB)."),
        ("RuntimeError", "Could not allocate tensor. There is not enough GPU video memory available!"),
        ("RuntimeError", "[enforce fail at x.cpp:1] DefaultCPUAllocator: not enough memory: you tried"),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        ("RuntimeError", "level_zero backend failed with error: UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY"),
        ("MemoryError", ""),
    ],
)  # fmt: skip
def test_running_out_of_memory_is_recognised_on_every_kind_of_device(
    exception_type: str, message: str
) -> None:
    failure = execution_failure({"exception_type": exception_type, "exception_message": message})
    assert failure.kind is FailureKind.OOM
    assert "This error means" not in failure.message


def test_a_missing_model_file_is_recognised_where_the_engine_says_it_for_certain() -> None:
    message = "Model in folder 'checkpoints' with filename 'a b.safetensors' not found."
    failure = execution_failure({"exception_type": "FileNotFoundError", "exception_message": message})
    assert failure.kind is FailureKind.MISSING_MODEL
    assert failure.message == f"FileNotFoundError: {message}"


def test_any_other_missing_file_is_a_node_error_without_its_path() -> None:
    message = "[Errno 2] No such file or directory: '/home/some one/ComfyUI/input/cat.png'"
    failure = execution_failure({"exception_type": "FileNotFoundError", "exception_message": message})
    assert failure.kind is FailureKind.NODE_ERROR
    assert failure.message == "FileNotFoundError: [Errno 2] No such file or directory: '…/cat.png'"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at /opt/comfy/nodes.py now", "at …/nodes.py now"),
        (r"at C:\ComfyUI\nodes.py now", "at …/nodes.py now"),
        ("under /root", "under …/root"),
        ("3 / 4 it/s, and/or 1/2", "3 / 4 it/s, and/or 1/2"),
        ("see https://example.com/a/b", "see https://example.com/a/b"),
        ("folder 'loras/style/a.safetensors'", "folder 'loras/style/a.safetensors'"),
    ],
)
def test_the_cause_names_files_without_the_servers_folders(text: str, shown: str) -> None:
    assert execution_failure({"exception_message": text}).message == shown


def test_a_long_cause_is_cut() -> None:
    failure = execution_failure({"exception_type": "ValueError", "exception_message": "word " * 200})
    assert len(failure.message) == MAX_CAUSE_CHARS
    assert failure.message.startswith("ValueError: word word")


def test_a_failure_without_any_word_still_has_a_sentence() -> None:
    failure = execution_failure({})
    assert failure.message == "The node failed without a reason"
    assert (failure.node_id, failure.node_type) == (None, None)
    assert execution_failure({"exception_type": "x.KeyError"}).message == "KeyError"


def test_point_15_the_detail_has_traceback_and_inputs_but_no_secrets_and_is_bounded() -> None:
    data = {
        "exception_type": "ValueError",
        "exception_message": "bad",
        "traceback": ["first\n", "x" * 50_000, "last line\n"],
        "current_inputs": {
            "api_key_comfy_org": ["sk-very-secret"],
            "nested": [{"auth_token": "also-secret", "deep": _nested(20)}],
            "text": ["y" * 10_000],
            "seed": [7],
        },
    }
    detail = execution_failure(data).detail
    assert detail is not None
    assert "last line" in detail
    assert '"seed": [7]' in detail
    assert "secret" not in detail
    assert len(detail) <= MAX_DETAIL_CHARS
    assert "y" * 501 not in detail


def _nested(depth: int) -> Any:
    return [_nested(depth - 1)] if depth else "bottom"


def test_a_traceback_that_is_one_text_is_kept() -> None:
    assert execution_failure({"traceback": "one text"}).detail == ": \none text"


def refusals(name: str) -> list[Any]:
    return [line.body for line in recordings.exchanges(name) if line.method == "POST" and line.status == 400]


@pytest.mark.parametrize("name", ["05", "v0.3.75/05"])
def test_every_recorded_refusal_has_a_cause_of_its_own(name: str) -> None:
    bodies = refusals(name)
    assert len(bodies) > 10
    for body in bodies:
        failure = validation_failure(body["error"], body["node_errors"])
        assert failure.kind is FailureKind.VALIDATION
        assert 10 < len(failure.message) <= MAX_CAUSE_CHARS
        if body["node_errors"]:
            assert failure.node_id in body["node_errors"]
            assert f"node {failure.node_id}" in failure.message


def test_a_refusal_lists_the_nodes_and_what_is_wrong_with_each() -> None:
    body = next(body for body in refusals("05") if len(body["node_errors"]) > 1)
    failure = validation_failure(body["error"], body["node_errors"])
    assert failure.message.startswith(
        "node 1 (EmptyImage): Failed to convert an input value to a INT value: height"
    )
    assert "node 1 (EmptyImage): Value 0 smaller than min of 1: width" in failure.message
    assert "more" in failure.message
    assert (failure.node_id, failure.node_type) == ("1", "EmptyImage")


def test_a_refusal_without_node_errors_says_what_the_engine_says() -> None:
    body = refusals("05")[0]
    failure = validation_failure(body["error"], body["node_errors"])
    assert failure.message.startswith("Node 'NoSuchNodeType' not found.")
    assert (failure.node_id, failure.node_type) == ("1", "NoSuchNodeType")
    assert validation_failure("only text", None).message == "only text"
    assert validation_failure(None, None).message == "The engine refused the graph"


def test_three_problems_are_listed_without_a_count_of_more() -> None:
    errors = {str(n): {"errors": [{"type": "t" * 200}], "class_type": "A"} for n in range(3)}
    message = validation_failure({}, errors).message
    assert "more" not in message
    assert validation_failure({}, {"1": {"errors": [{"type": "odd"}]}}).message == "node 1: odd"


def test_a_branch_that_was_left_out_is_named_by_its_output_node() -> None:
    body = next(
        line.body
        for line in recordings.exchanges("05")
        if line.method == "POST" and line.status == 200 and line.body["node_errors"]
    )
    dropped = dropped_branches(body["node_errors"])
    assert list(dropped) == ["4"]
    assert dropped[NodeId("4")].startswith(
        "node 3 (ImageScale): Value not in list: upscale_method: 'no-such'"
    )


@pytest.mark.parametrize(
    ("node_errors", "dropped"),
    [
        (None, {}),
        ([], {}),
        ({"3": None}, {"3": "Node 3 is not valid"}),
        ({"3": {"errors": "x", "dependent_outputs": [4, "5"]}}, dict.fromkeys("45", "Node 3 is not valid")),
    ],
)
def test_odd_node_errors_are_read_as_far_as_they_go(node_errors: Any, dropped: dict[str, str]) -> None:
    assert dropped_branches(node_errors) == dropped


LINES = "/a b\n" * 2_000_000
MANY = {str(n): {"errors": [{"message": LINES}] * 3, "class_type": LINES} for n in range(100_000)}


@pytest.mark.parametrize(
    "failure",
    [
        lambda: execution_failure({"exception_message": LINES, "exception_type": LINES, "node_type": LINES}),
        lambda: execution_failure({"traceback": [LINES] * 100_000, "node_id": LINES}),
        lambda: execution_failure({"current_inputs": {LINES: {"a": [{"b": {"c": [1] * 99}}] * 99}}}),
        lambda: validation_failure({"message": LINES, "extra_info": {"class_type": LINES}}, 0),
        lambda: validation_failure(None, MANY),
        lambda: validation_failure(None, {LINES: {"errors": [{"message": LINES}] * 100_000}}),
    ],
)
def test_what_an_engine_says_too_much_of_is_not_looked_at(failure: Callable[[], JobFailure]) -> None:
    before = time.process_time()
    found = failure()
    assert time.process_time() - before < 0.5, "the whole text takes seconds"
    assert len(found.message) <= MAX_CAUSE_CHARS
    assert max(len(found.node_id or ""), len(found.node_type or "")) <= MAX_CAUSE_CHARS


def test_branches_that_were_left_out_are_named_up_to_a_bound() -> None:
    assert len(dropped_branches(MANY)) == MAX_READ
    one = {"1": {"errors": [], "dependent_outputs": [LINES, *map(str, range(100_000))]}}
    assert len(dropped_branches(one)) == MAX_READ


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["exception_type", "exception_message", "traceback", "current_inputs", "node_id", "errors", "message",
         "details", "extra_info", "dependent_outputs", "class_type"]), inner, max_size=6),
    max_leaves=20,
)  # fmt: skip


@given(_ANY)
def test_anything_becomes_a_failure_within_its_bounds(data: Any) -> None:
    failures = [validation_failure(data, data)]
    if isinstance(data, dict):
        failures.append(execution_failure(data))
    for failure in failures:
        assert 0 < len(failure.message) <= MAX_CAUSE_CHARS
        assert failure.detail is not None
        assert len(failure.detail) <= MAX_DETAIL_CHARS
    assert all(dropped_branches(data).values())
