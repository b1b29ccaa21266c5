"""The checks agree with an engine's own verdicts.

data/object_info_excerpt.json is an excerpt of a real ComfyUI 0.3.75's /object_info; for each graph of
data/validation_verdicts.jsonl that same ComfyUI said which output nodes it accepts and which errors it finds.
"""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from comfy_mcp.domain.errors import InvalidGraph
from comfy_mcp.domain.graph import MAX_PROBLEMS, parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from tests.domain.judged_graphs import DATA, EXCERPT, INFO, TXT2IMG, changed, report

VERDICTS: list[dict[str, Any]] = [
    {"name": f"graph {number}", **json.loads(line)}
    for number, line in enumerate(
        (DATA / "validation_verdicts.jsonl").read_text(encoding="utf-8").splitlines()
    )
]
CHECKS_FILES_ITSELF = {"LoadImage", "LoadLatent"}
VALUE_KINDS = {
    "required_input_missing",
    "value_smaller_than_min",
    "value_bigger_than_max",
    "value_not_in_list",
    "invalid_input_type",
    "return_type_mismatch",
}


def outputs_that_ask_the_engine(raw: Mapping[str, Any], outputs: tuple[str, ...]) -> set[str]:
    graph = parse_graph(raw)
    return {
        output
        for output in graph.nodes
        if output in outputs
        and any(graph.nodes[node].class_type in CHECKS_FILES_ITSELF for node in graph.upstream(output))
    }


def test_the_corpus_holds_accepted_partly_accepted_and_refused_graphs() -> None:
    assert sum(bool(row["accepted"]) for row in VERDICTS) > 50
    assert sum(bool(row["accepted"] and row["node_errors"]) for row in VERDICTS) > 5
    assert sum(not row["accepted"] for row in VERDICTS) > 50
    kinds = {kind for row in VERDICTS for found in row["node_errors"].values() for kind in found}
    assert kinds >= VALUE_KINDS | {"bad_linked_input", "exception_during_inner_validation"}


def stops_the_engine(prompt: Mapping[str, Any]) -> bool:
    """A verdict of 200 says nothing then: the engine's worker dies of the prompt."""
    for node in prompt.values():
        if not isinstance(node.get("inputs"), dict):
            return True
        given = EXCERPT.get(node["class_type"], {}).get("input", {})
        declared = {**given.get("required", {}), **given.get("optional", {})}
        for name, value in node["inputs"].items():
            is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)
            if is_link and name not in declared and value[0] not in prompt:
                return True
    return False


@pytest.mark.parametrize("where", ["needed", "not needed", "in a dropped branch"])
def test_a_node_without_inputs_is_refused_wherever_it_stands(where: str) -> None:
    extra: dict[str, Any] = {"8": {"class_type": "ImageInvert"}}
    if where == "in a dropped branch":
        extra["9"] = {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "x"}}
    raw = {**TXT2IMG, **extra} if where != "needed" else {**TXT2IMG, "4": {"class_type": "EmptyLatentImage"}}
    (problem,) = report(raw).problems
    assert problem.kind == "invalid_node"
    assert "stop" in problem.message
    assert not report(raw).runnable


def test_a_link_to_nowhere_in_an_input_that_is_not_declared_is_refused() -> None:
    (problem,) = report(changed("6", "zzz", ["55", 0])).problems
    assert (problem.kind, problem.input_name) == ("bad_linked_input", "zzz")
    assert not report(changed("6", "zzz", ["55", 0])).runnable


@pytest.mark.parametrize("row", VERDICTS, ids=lambda row: row["name"])
def test_the_verdict_is_the_engines(row: dict[str, Any]) -> None:
    found = report(row["prompt"]) if row["error"] != "invalid_prompt" else None
    if found is None:
        with pytest.raises(InvalidGraph):
            raise check_graph(parse_graph(row["prompt"]), INFO).error() or AssertionError("accepted")
        return
    if stops_the_engine(row["prompt"]) and not found.runnable:
        return  # whether it is refused is tested below
    mine, theirs = set(found.outputs), set(row["accepted"])
    assert theirs <= mine, "refused what the engine takes"
    assert mine - theirs <= outputs_that_ask_the_engine(row["prompt"], found.outputs)


@pytest.mark.parametrize(
    "row",
    [row for row in VERDICTS if row["node_errors"]],
    ids=lambda row: row["name"],
)
def test_every_value_that_the_engine_refuses_is_found_and_named(row: dict[str, Any]) -> None:
    found = report(row["prompt"])
    named = {(problem.node_id, problem.kind) for problem in found.problems}
    expected = {
        (node, kind if isinstance(row["prompt"][node].get("inputs"), dict) else "invalid_node")
        for node, kinds in row["node_errors"].items()
        for kind in kinds
        if kind in VALUE_KINDS and row["prompt"][node]["class_type"] not in CHECKS_FILES_ITSELF
    }
    assert expected <= named or found.problem_count > MAX_PROBLEMS
