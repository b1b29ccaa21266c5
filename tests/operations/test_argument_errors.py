"""A wrong argument is explained with what was given, what is allowed, and a call that would do."""

import json
import re
import sys
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest
from pydantic import AliasChoices

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.operations.argument_errors import MOST
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.operation import Operation
from comfy_mcp.operations.registry import BY_NAME, OPERATIONS
from comfy_mcp.operations.repairs import repaired
from tests.operations.conftest import Bench


def refusal(operation: str, **arguments: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        BY_NAME[operation].parse(arguments)
    return caught.value


@pytest.mark.parametrize(
    ("operation", "arguments", "said", "example"),
    [
        (
            "workflow_status",
            {},
            "workflow_id: required, and missing",
            'workflow_status(workflow_id="6f1c2b5e")',
        ),
        (
            "list_workflows",
            {"limit": 500},
            "limit: must be at most 200, not 500",
            "list_workflows(limit=20)",
        ),
        ("list_workflows", {"limit": "many"}, "limit: must be a whole number, not 'many'", "limit=20"),
        ("list_workflows", {"status": "done"}, "'cancelled' or 'ended', not 'done'", 'status="queued"'),
        (
            "submit_workflow",
            {"workflow": []},
            "workflow: must be a graph as an object, or as text a name",
            "submit_workflow(",
        ),
        (
            "submit_workflow",
            {"workflow": "a", "matrix": {"cfg": 4}},
            "'cfg' must be a list, not 4",
            "matrix=",
        ),
        ("cancel_workflow", {"all": True}, 'all: must be "mine": all of yours', "cancel_workflow("),
        ("wait_for_workflow", {"workflow_id": ""}, "workflow_id: must not be empty.", "6f1c2b5e"),
        ("list_outputs", {"type": "poem"}, "'image', 'video'", 'list_outputs(type="image")'),
        ("list_outputs", {"cursor": "x" * 600}, "cursor: must have at most 512 characters", "cursor="),
        (
            "wait_for_workflow",
            {"workflowId": "w", "timeoutS": -1},
            "timeoutS: must be at least 0, not -1",
            'wait_for_workflow(workflow_id="6f1c2b5e", timeout_s=45)',
        ),
        ("view_output", {"output_id": "o", "max_px": 5.5}, "max_px: must be a whole number", "max_px=512"),
        (
            "workflow_status",
            {"workflow_id": "w", "attempts": "perhaps"},
            "attempts: must be true or false",
            "6f1",
        ),
        (
            "submit_workflow",
            {"run_timeout_s": 0},
            "run_timeout_s: must be more than 0, not 0",
            "submit_workflow(",
        ),
        ("submit_workflow", {"extra_data": 3}, "extra_data: must be an object", "submit_workflow("),
        ("submit_workflow", {"labels": [3, 3]}, "labels: must be text, not 3.", "submit_workflow("),
        ("submit_workflow", {"webhook": 3}, "webhook: must be an object, not 3.", "submit_workflow("),
        ("submit_workflow", {"name": "\ud800"}, "name: must be text in Unicode", "submit_workflow("),
        (
            "add_engine",
            {"engine": "a b", "url": "http://x"},
            "engine: must match ^[^\\s,=/]+$, not 'a b'.",
            'add_engine(engine="gpu-box", url="http://gpu-box:8188")',
        ),
        ("view_output", {"output_id": ""}, "output_id: must have at least 1 character(s)", "3f9a1c77"),
    ],
)
def test_what_is_wrong_what_is_allowed_and_an_example(
    operation: str, arguments: dict[str, Any], said: str, example: str
) -> None:
    error = refusal(operation, **arguments)
    assert said in error.message
    assert example in error.next_step


@pytest.mark.parametrize("workflow", [[], [{"nodes": []}], 7, 1.5, True])
def test_what_a_workflow_may_be_is_said(workflow: Any) -> None:
    said = str(refusal("submit_workflow", workflow=workflow))
    assert "workflow: must be a graph as an object, or as text a name, a path, job:ID or the graph" in said
    assert "submit_workflow(workflow=" in said


def test_a_limit_that_is_too_high_leads_to_the_next_page() -> None:
    assert "`cursor` gives the next page" in refusal("list_models", limit=201).next_step
    assert "cursor" not in refusal("workflow_status").next_step
    assert "cursor" not in refusal("find_workflow", limit=0).next_step  # it has no pages


def test_one_fault_of_an_argument_is_told_and_no_more_arguments_than_a_few() -> None:
    error = refusal(
        "list_workflows",
        status=1,
        failure_kind=2,
        retried="x",
        client=3,
        since=-1,
        limit=0,
        cursor=5,
        fields="x",
    )
    assert error.message.count(";") == MOST - 1
    assert error.message.count("status:") == 1


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_example_has_all_that_is_required(operation: Operation[Any, Any]) -> None:
    """Those that take no object: an example of a workflow is in the documents."""
    required = [name for name, field in operation.params.model_fields.items() if field.is_required()]
    if not {*required} <= {"workflow_id", "output_id"} or not required:
        return
    error = refusal(operation.name)
    given = {name: {"workflow_id": "6f1c2b5e", "output_id": "3f9a1c77"}[name] for name in required}
    assert all(f'{name}="{value}"' in error.next_step for name, value in given.items())
    operation.parse(given)


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.tool], ids=lambda each: each.name)
def test_an_example_is_a_call_that_would_do(operation: Operation[Any, Any]) -> None:
    """Whichever argument was wrong."""
    for name in operation.params.model_fields:
        try:
            operation.parse({name: {"no": object()}})
        except InvalidInput as error:
            (example,) = re.findall(rf"such as ({operation.name}\(.*\))\.", error.next_step)
            words = {operation.name: lambda **given: given, "true": True, "false": False}
            operation.parse(eval(example, words))


@pytest.mark.parametrize(
    ("operation", "arguments", "said"),
    [
        ("submit_workflow", {"matrix": {"cfg": 7}}, "matrix: 'cfg' must be a list, not 7"),
        ("list_outputs", {"since": 1e30}, "since: must be a smaller number, not 1e+30"),
        ("submit_workflow", {"inputs": "a red fox"}, 'inputs={"prompt": "a red fox"}'),
        ("describe_workflow", {}, 'describe_workflow(name="text-to-image")'),
    ],
)
def test_no_answer_is_in_the_words_of_a_library(operation: str, arguments: dict[str, Any], said: str) -> None:
    error = refusal(operation, **arguments)
    assert said in f"{error.message} {error.next_step}"


# ---------------------------------------------------------------------------- wrong arguments of megabytes

MANY = 300_000


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


LARGE: dict[str, Callable[[], Any]] = {
    "a text": lambda: "x" * 3_000_000,
    "a text of white space": lambda: " " * 3_000_000,
    "a text of quotes": lambda: "'\"`" * 1_000_000,
    "a number": lambda: "1" * 3_000_000,
    "numbers": lambda: [1] * MANY,
    "numbers as text": lambda: json.dumps([1] * MANY),
    "numbers as a short text": lambda: "[" + "1," * 20_000 + "1]",
    "many ids": lambda: ",".join(["6f1c2b5e"] * MANY),
    "lists": lambda: [[]] * MANY,
    "lists in lists": lambda: nested(MANY),
    "texts": lambda: ["x" * 100_000] * 30,
    "an object": lambda: {f"x{at}": 1 for at in range(MANY)},
    "objects": lambda: [{"url": "x"}] * MANY,
    "an object of texts": lambda: {f"x{at}": "x" * 100_000 for at in range(30)},
    "an object of lists": lambda: {f"x{at}": [1] for at in range(MANY)},
    "a list in an object": lambda: {"cfg": [1] * MANY},
}
"""Made when asked for: a million objects would be in the way of every other test of the process."""

MAX_LINES = 60_000
"""Lines of Python for one call."""

COPIES = 5
"""Of a value that may be anything, in bytes: what its text, if it is one, or its own entries are."""


@pytest.fixture(scope="module", params=LARGE, ids=str)
def large(request: pytest.FixtureRequest) -> Any:
    return LARGE[request.param]()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_no_argument_of_megabytes_is_walked_copied_or_printed(
    operation: Operation[Any, Any], large: Any
) -> None:
    """What C code does shows in the memory that it takes: an error for each entry, a text of all."""
    for name, field in operation.params.model_fields.items():
        alias = field.validation_alias
        for each in (name, *(alias.choices[1:] if isinstance(alias, AliasChoices) else ())):
            lines, peak = work_of(lambda each=each: understood(operation, {each: large}))  # type: ignore[misc]
            assert lines < MAX_LINES, (name, lines)
            free = "Any" in str(field.annotation)
            assert peak < (COPIES * sys.getsizeof(large) if free else 0) + 200_000, (name, peak)


def understood(operation: Operation[Any, Any], given: dict[str, Any]) -> None:
    with suppress(InvalidInput):
        operation.parse(repaired(operation.name, operation.params, given)[0])


def work_of(work: Callable[[], None]) -> tuple[int, int]:
    """Lines of the product that run, and the most bytes that are in use at a time."""
    work()  # what is made at the first use is no part of it
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    lines = 0

    def line(_frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return line

    before = sys.gettrace()
    sys.settrace(line)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines, peak


@pytest.mark.parametrize(
    ("operation", "arguments", "said"),
    [
        ("submit_workflow", {"labels": ["gpu"] * 1_001}, "labels: too large, at most 1000 entries and 65536"),
        ("submit_workflow", {"tags": {"a": "x" * 70_000}}, "tags: too large"),
        ("workflow_status", {"workflowId": "x" * 70_000}, 'workflow_status(workflow_id="6f1c2b5e")'),
        ("submit_workflow", {"inputs": {f"x{at}": 1 for at in range(201)}}, "must have at most 200 entries"),
        ("submit_workflow", {"matrix": {"cfg": [1] * 65}}, "matrix: 'cfg' must have at most 64 entries"),
    ],
)
def test_what_is_too_large_is_told_with_the_limit(
    operation: str, arguments: dict[str, Any], said: str
) -> None:
    of = BY_NAME[operation]
    with pytest.raises(InvalidInput) as caught:
        of.parse(repaired(operation, of.params, arguments)[0])
    assert said in f"{caught.value.message} {caught.value.next_step}"
    assert len(caught.value.message) < 300


async def test_arguments_by_the_hundred_thousand_are_read_beside_the_loop(call: Bench) -> None:
    threads = set[int]()

    class Watched(dict[str, int]):
        def items(self) -> Any:
            threads.add(threading.get_ident())
            return super().items()

    context = OperationContext(services=call.services, caller=call.caller)
    with pytest.raises(InvalidInput, match="workflow_id: required"):
        await BY_NAME["workflow_status"].call(context, Watched(dict.fromkeys(map(str, range(MANY)), 1)))
    assert threads
    assert threading.get_ident() not in threads
