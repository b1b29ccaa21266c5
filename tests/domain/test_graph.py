"""What is refused before an engine is even asked."""

from typing import Any

import pytest

from comfy_mcp.domain.errors import ErrorCode, GraphProblem, InvalidGraph
from comfy_mcp.domain.graph import MAX_PROBLEMS, Link, invalid_graph, parse_graph

GOOD: dict[str, Any] = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64}},
    "2": {
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "x"},
        "_meta": {"title": "Keep it"},
    },
}


def refusal(raw: object) -> InvalidGraph:
    with pytest.raises(InvalidGraph) as caught:
        parse_graph(raw)
    assert caught.value.problems
    return caught.value


def test_a_graph_is_nodes_with_titles_inputs_and_links() -> None:
    graph = parse_graph(GOOD)
    first, second = graph.nodes.values()
    assert (first.id, first.class_type, first.title, dict(first.links)) == (
        "1",
        "EmptyImage",
        "EmptyImage",
        {},
    )
    assert second.title == "Keep it"
    assert second.inputs == {"images": ["1", 0], "filename_prefix": "x"}
    assert second.links == {"images": Link(node=first.id, slot=0)}
    assert graph.raw is GOOD


@pytest.mark.parametrize("meta", [None, "title", {}, {"title": ""}, {"title": "  "}, {"title": 3}])
def test_without_a_usable_title_a_node_is_called_by_its_class(meta: object) -> None:
    graph = parse_graph({"1": {"class_type": "EmptyImage", "inputs": {}, "_meta": meta}})
    assert [node.title for node in graph.nodes.values()] == ["EmptyImage"]


@pytest.mark.parametrize(
    "value",
    [["1"], ["1", 0, 0], [1, 0], ["1", "0"], ["1", 0.5], ("1", 0), "1", {"__value__": ["1", 0]}, [], None],
)
def test_only_a_list_of_a_node_id_and_a_slot_is_a_link(value: object) -> None:
    graph = parse_graph({"1": {"class_type": "A", "inputs": {"x": value}}})
    assert not next(iter(graph.nodes.values())).links


def test_a_pasted_request_body_is_unwrapped() -> None:
    graph = parse_graph({"prompt": GOOD, "client_id": "me", "extra_data": {"api_key_comfy_org": "secret"}})
    assert graph.raw is GOOD


def test_a_node_whose_id_is_prompt_is_not_a_wrapper() -> None:
    raw = {"prompt": {"class_type": "SaveImage", "inputs": {}}}
    assert list(parse_graph(raw).nodes) == ["prompt"]


def test_the_workflow_of_a_body_that_holds_no_object_is_judged_as_a_node() -> None:
    assert refusal({"prompt": "a lighthouse"}).problems[0].node_id == "prompt"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([], "a list"),
        ("{}", "a string"),
        (None, "null"),
        (True, "a boolean"),
        (3, "a number"),
        (1.5, "a number"),
        (object(), "something else"),
    ],
)
def test_what_is_no_object_is_refused_by_its_kind(raw: object, said: str) -> None:
    error = refusal(raw)
    assert error.code is ErrorCode.GRAPH_INVALID
    assert said in error.message
    assert "Export (API)" in error.next_step


@pytest.mark.parametrize(
    "raw",
    [
        {"nodes": [], "links": [], "version": 0.4, "last_node_id": 1},
        {"nodes": [{"id": 1, "type": "SaveImage"}]},
        {"prompt": {"nodes": [], "links": []}},
    ],
)
def test_the_ui_format_is_named_and_how_to_export_the_other_one(raw: object) -> None:
    error = refusal(raw)
    assert error.code is ErrorCode.GRAPH_UI_FORMAT
    assert "UI format" in error.message
    assert "Workflow > Export (API)" in error.next_step


def test_an_api_graph_with_a_node_called_nodes_is_not_the_ui_format() -> None:
    assert list(parse_graph({"nodes": {"class_type": "A", "inputs": {}}}).nodes) == ["nodes"]


@pytest.mark.parametrize("raw", [{}, {"prompt": {}}])
def test_an_empty_graph_has_nothing_to_run(raw: object) -> None:
    error = refusal(raw)
    assert error.code is ErrorCode.GRAPH_INVALID
    assert error.problems[0].kind == "prompt_no_outputs"


@pytest.mark.parametrize("node", [{}, {"inputs": {}}, {"class_type": None}, {"class_type": ""}])
def test_a_node_without_a_class_is_named(node: object) -> None:
    (problem,) = refusal({**GOOD, "9": node}).problems
    assert (problem.kind, problem.node_id) == ("missing_node_type", "9")


@pytest.mark.parametrize("node", ["x", [], None, 3])
def test_a_node_that_is_no_object_is_named(node: object) -> None:
    (problem,) = refusal({**GOOD, "9": node}).problems
    assert (problem.kind, problem.node_id) == ("invalid_node", "9")


@pytest.mark.parametrize("inputs", [None, [], "x", 3])
def test_inputs_that_are_no_object_are_left_for_the_checks(inputs: object) -> None:
    (node,) = parse_graph({"1": {"class_type": "A", "inputs": inputs}}).nodes.values()
    assert not node.has_inputs
    assert node.inputs == {}


def test_missing_inputs_are_left_for_the_checks() -> None:
    (node,) = parse_graph({"1": {"class_type": "A"}}).nodes.values()
    assert not node.has_inputs


def test_many_problems_are_told_in_part_and_counted() -> None:
    error = refusal({str(number): "x" for number in range(50)})
    assert len(error.problems) == MAX_PROBLEMS
    told = error.message.count("must be an object")
    assert 3 < told <= MAX_PROBLEMS
    assert f"and {50 - told} more" in error.message


def test_few_problems_are_all_in_the_message() -> None:
    problems = [GraphProblem(kind="k", message=f"Problem {number}.") for number in range(3)]
    error = invalid_graph(problems)
    assert error.message == "The workflow can't run: Problem 0; Problem 1; Problem 2."
    assert error.problems == tuple(problems)


def test_upstream_is_what_a_node_needs_even_round_a_loop_or_to_nowhere() -> None:
    graph = parse_graph(
        {
            "a": {"class_type": "A", "inputs": {"x": ["b", 0], "y": ["nowhere", 0]}},
            "b": {"class_type": "A", "inputs": {"x": ["a", 0], "y": ["c", 0]}},
            "c": {"class_type": "A", "inputs": {}},
            "d": {"class_type": "A", "inputs": {"x": ["c", 0]}},
        }
    )
    a, _, c, d = graph.nodes
    assert graph.upstream(a) == {"a", "b", "c"}
    assert graph.upstream(d) == {"c", "d"}
    assert graph.upstream(c, d) == {"c", "d"}
    assert graph.upstream() == frozenset()


def test_upstream_is_not_bound_by_the_interpreters_stack() -> None:
    length = 5000
    raw = {
        str(number): {"class_type": "A", "inputs": {"x": [str(number - 1), 0]} if number else {}}
        for number in range(length)
    }
    graph = parse_graph(raw)
    assert len(graph.upstream(list(graph.nodes)[-1])) == length


def test_the_graph_of_a_runpod_body_is_taken_out() -> None:
    graph = {"1": {"class_type": "A", "inputs": {}}}
    assert parse_graph({"input": {"workflow": graph, "images": []}}).raw == graph
    assert list(parse_graph({"input": {"class_type": "A", "inputs": {}}}).nodes) == ["input"]


@pytest.mark.parametrize(
    ("meta", "pack"),
    [
        ({"cnr_id": "pack", "aux_id": "owner/name"}, "pack"),
        ({"cnr_id": "", "aux_id": "owner/name"}, "owner/name"),
        ({"cnr_id": 5}, None),
        ({"title": "x"}, None),
        (["cnr_id"], None),
        ({"aux_id": "k" * 200}, "k" * 100),
    ],
)
def test_a_node_may_say_where_its_class_comes_from(meta: object, pack: str | None) -> None:
    graph = parse_graph({"1": {"class_type": "X", "inputs": {}, "_meta": meta}})
    assert [node.pack for node in graph.nodes.values()] == [pack]
