"""Several workflows out of one graph."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.batches import (
    MAX_BATCH,
    SEEDS,
    Seed,
    combinations,
    require_other,
    seeds_of,
    with_new_seeds,
    with_seeds,
)
from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.parameters import parameters_of

GRAPH: dict[str, Any] = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 5, "cfg": 7.0, "model": ["4", 0]}},
    "2": {"class_type": "RandomNoise", "inputs": {"noise_seed": SEEDS - 1}},
    "3": {"class_type": "KSampler", "inputs": {"seed": ["6", 0], "cfg": 3.0}},
    "4": {"class_type": "Note"},
    "5": {"class_type": "Other", "inputs": {"variation_seed": 1, "seed": "random", "noise_seed": True}},
    "6": {"class_type": "PrimitiveInt", "inputs": {"value": 5}, "_meta": {"title": "Luck"}},
}
FOUND = {("1", "seed"), ("2", "noise_seed"), ("5", "variation_seed"), ("6", "value")}


def seeds_in(raw: dict[str, Any]) -> tuple[Seed, ...]:
    graph = parse_graph(raw)
    return seeds_of(graph, parameters_of(graph, None))


def values(raw: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {(each.node, each.name): raw[each.node]["inputs"][each.name] for each in seeds_in(GRAPH)}


def test_seeds_are_what_is_called_one_and_what_is_linked_to_one() -> None:
    assert {(each.node, each.name) for each in seeds_in(GRAPH)} == FOUND


def test_seeds_are_counted_up_and_nothing_else_changes() -> None:
    made = [with_seeds(GRAPH, seeds_in(GRAPH), step) for step in range(3)]
    assert made[0] == GRAPH
    assert [values(each)["1", "seed"] for each in made] == [5, 6, 7]
    assert [values(each)["6", "value"] for each in made] == [5, 6, 7]
    assert [values(each)["2", "noise_seed"] for each in made] == [SEEDS - 1, 0, 1]
    assert all(each[node] is GRAPH[node] for each in made for node in ("3", "4"))
    assert made[1]["1"]["inputs"] | {"seed": 5} == GRAPH["1"]["inputs"]


@given(st.integers(0, 2**31 - 1), st.integers(0, MAX_BATCH - 1))
def test_no_variation_has_the_seed_that_was_there(random: int, step: int) -> None:
    """And seeds that were the same, or others, still are."""
    seeds = seeds_in(GRAPH)
    made = values(with_seeds(with_new_seeds(GRAPH, seeds, random), seeds, step))
    assert all(value != values(GRAPH)[target] for target, value in made.items())
    assert made["1", "seed"] == made["6", "value"] != made["2", "noise_seed"]


@given(st.integers(-5, 5), st.integers(0, 2**64), st.integers(0, 2**33), st.data())
def test_a_seed_stays_within_the_limits_of_its_node(lowest: int, more: int, step: int, data: Any) -> None:
    seed = Seed(NodeId("1"), "seed", lowest, lowest + more)
    value = data.draw(st.integers(lowest, lowest + more))
    assert lowest <= seed.counted(value, step) <= lowest + more


def test_the_limits_are_those_of_the_parameter() -> None:
    graph = parse_graph(GRAPH)
    (known,) = [each for each in parameters_of(graph, None) if ("1", "seed") in each.targets]
    for lowest, highest, expected in ((1, 9.0, (1, 9)), (None, None, (0, SEEDS - 1)), (4, 2, (4, 4))):
        limited = replace(known, minimum=lowest, maximum=highest)
        (seed,) = [each for each in seeds_of(graph, [limited]) if each.node == "1"]
        assert (seed.lowest, seed.highest) == expected


def test_what_is_no_number_any_more_is_left() -> None:
    changed = {**GRAPH, "1": {"class_type": "KSampler", "inputs": {"seed": ["9", 0]}}}
    assert with_seeds(changed, seeds_in(GRAPH), 1)["1"] is changed["1"]


def test_a_variation_that_would_be_the_same_is_refused_with_the_reason() -> None:
    require_other({"1": 1}, {"1": 2}, ())
    with pytest.raises(InvalidInput, match="no seed to vary"):
        require_other(GRAPH, GRAPH, ())
    with pytest.raises(InvalidInput, match="matrix gives the seeds"):
        require_other(GRAPH, GRAPH, seeds_in(GRAPH))


def test_a_matrix_makes_every_combination_with_each_seed() -> None:
    assert combinations(2, {"a": [1, 2], "b": ["x"]}) == [
        ({"a": 1, "b": "x"}, 0),
        ({"a": 1, "b": "x"}, 1),
        ({"a": 2, "b": "x"}, 0),
        ({"a": 2, "b": "x"}, 1),
    ]
    assert combinations(3, {}) == [({}, 0), ({}, 1), ({}, 2)]


@pytest.mark.parametrize(
    ("variations", "matrix", "said"),
    [
        (MAX_BATCH + 1, {}, "variations is 65"),
        (0, {}, "variations is 0; 1 to 64"),
        (-1, {"cfg": [1]}, "variations is -1"),
        (2, {"cfg": []}, "'cfg' has no values"),
        (8, {"cfg": [*range(9)]}, "make more than 64 workflows"),
        (1, {str(name): [1, 2] for name in range(20_000)}, "make more than 64 workflows"),
    ],
)
def test_too_many_and_none_are_refused_with_what_is_wrong(variations: int, matrix: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        combinations(variations, matrix)
