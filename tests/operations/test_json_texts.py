"""A graph that comes as text, or in what other tools put around one: found, and told."""

import json
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.operations.json_texts import HALF_CHARACTER, graph_in
from tests.operations.conftest import Bench
from tests.support import graphs

GRAPH = {"1": {"class_type": "EmptyImage", "inputs": {"width": 64}}}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (GRAPH, ""),
        ({"prompt": GRAPH, "client_id": "x"}, ""),
        (json.dumps(GRAPH), ""),
        ({"workflow": GRAPH}, "from 'workflow'"),
        ({"output": {}, "workflow": GRAPH}, "from 'workflow'"),
        ({"input": {"workflow": GRAPH, "images": []}}, "from 'input.workflow'"),
        ({"input": {"prompt": GRAPH}}, "from 'input.prompt'"),
        (json.dumps({"workflow": GRAPH}), "from 'workflow'"),
        (json.dumps(json.dumps(GRAPH)), "within JSON text"),
        (json.dumps(json.dumps(json.dumps(GRAPH))), "within JSON text"),
        (f"```json\n{json.dumps(GRAPH)}\n```", "Markdown fence"),
        (f"  ```\n{json.dumps(GRAPH, indent=2)}```\n", "Markdown fence"),
        (f"Here it is:\n\n```json\n{json.dumps(GRAPH)}\n```\nEnjoy!", "Only what is in the Markdown"),
        (json.dumps(f"```json\n{json.dumps(GRAPH)}\n```"), "within JSON text"),
    ],
)
async def test_a_graph_is_found_in_what_is_put_around_it(value: object, told: str) -> None:
    graph, warnings = await graph_in(value, json.loads)
    assert graph in (GRAPH, {"prompt": GRAPH, "client_id": "x"})
    assert (told in " ".join(warnings)) if told else not warnings


LAYERS: dict[str, Callable[[Any], Any]] = {
    "text": json.dumps,
    "indented": lambda inner: json.dumps(inner, indent=2) + "\n",
    "fence": lambda inner: f"```json\n{json.dumps(inner)}\n```",
    "prompt": lambda inner: {"prompt": inner, "client_id": "x"},
    "workflow": lambda inner: {"workflow": inner},
    "RunPod": lambda inner: {"input": {"workflow": inner, "images": []}},
    "input": lambda inner: {"input": {"prompt": inner}},
}
PLAIN = {"text", "indented", "prompt"}
"""What alone needs no word."""


@pytest.mark.parametrize(
    "layers", [each for n in range(4) for each in product(LAYERS, repeat=n)], ids="-".join
)
async def test_whatever_is_put_around_a_graph_in_whatever_order_it_is_found_and_told(
    layers: tuple[str, ...],
) -> None:
    value: Any = GRAPH
    for layer in layers:
        value = LAYERS[layer](value)
    found, warnings = await graph_in(value, json.loads)
    assert GRAPH in (found, found.get("prompt") if isinstance(found, dict) else None)
    assert warnings or PLAIN.issuperset(layers)
    assert len(warnings) == len(set(warnings))


@pytest.mark.parametrize("value", [{"prompt": "a red fox"}, {"workflow": "My flow"}])
async def test_a_text_that_is_no_json_is_no_graph(value: object) -> None:
    assert await graph_in(value, json.loads) == (value, ())


MANY = 300_000


@pytest.mark.parametrize(
    "text",
    [
        "```" + "\n" * MANY + "x",
        "```\n" + " " * MANY,
        " " * MANY + "```",
        "`" * MANY,
        "```\n" * (MANY // 4),
        "```\n" + "\n``` " * (MANY // 5) + "x",
        "a ```\n{}``` b ```\n{}``` c",
        '"a ```\n{}```',
        "a ```{}``` b",
        "a ```" + " " * MANY,
    ],
    ids=["lines", "blanks", "blanks before", "backticks", "fences", "ends", "two", "json", "line", "open"],
)
async def test_what_looks_like_a_fence_costs_no_more_than_its_length(text: str) -> None:
    """An expression that tries each end would take hours: the test's time limit is the proof."""
    with pytest.raises(json.JSONDecodeError):
        await graph_in(text, json.loads)


async def test_the_editors_file_beside_its_export_travels_along() -> None:
    graph, (told,) = await graph_in({"output": GRAPH, "workflow": {"nodes": []}}, json.loads)
    assert graph == {"prompt": GRAPH, "extra_data": {"extra_pnginfo": {"workflow": {"nodes": []}}}}
    assert "from 'output'" in told


async def test_half_a_character_is_replaced_and_told(call: Bench) -> None:
    for half in (graphs.text("half \ud83d"), json.dumps(graphs.text("half \ud83d"))):
        submitted = await call("submit_workflow", workflow=half)
        assert HALF_CHARACTER in submitted.warnings
        done = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
        assert done.outputs[0].content.startswith("half \ufffd")


async def test_what_is_nested_deeper_than_python_goes_is_refused(call: Bench) -> None:
    deep: object = "x"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidInput, match="nested too deeply"):
        await call("submit_workflow", workflow={"1": deep})


async def test_a_number_that_json_does_not_have_is_refused(call: Bench) -> None:
    graph = graphs.picture()
    graph["1"]["_meta"] = {"zoom": float("inf")}
    with pytest.raises(InvalidInput, match="JSON can't hold"):
        await call("submit_workflow", workflow=graph)


@pytest.mark.parametrize(
    "value", [7, None, ["a"], {"workflow": 7}, {"output": {"class_type": "A"}}, {"a": GRAPH}]
)
async def test_what_is_no_graph_stays_for_the_checks(value: object) -> None:
    assert await graph_in(value, json.loads) == (value, ())


async def test_text_that_is_encoded_too_often_stays_text() -> None:
    text: object = GRAPH
    for _ in range(5):
        text = json.dumps(text)
    assert isinstance((await graph_in(text, json.loads))[0], str)
