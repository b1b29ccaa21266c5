"""Several workflows out of one graph."""

from typing import Any

import pytest

from comfy_mcp.domain.batches import MAX_BATCH, SEEDS, combinations, with_seeds
from comfy_mcp.domain.errors import InvalidInput

GRAPH: dict[str, Any] = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 5, "cfg": 7.0, "model": ["4", 0]}},
    "2": {"class_type": "RandomNoise", "inputs": {"noise_seed": SEEDS - 1}},
    "3": {"class_type": "KSampler", "inputs": {"seed": ["2", 0], "cfg": 3.0}},
    "4": {"class_type": "Note"},
}


def test_seeds_are_counted_up_and_nothing_else_changes() -> None:
    made = [with_seeds(GRAPH, step) for step in range(3)]
    assert made[0] == GRAPH
    assert [each["1"]["inputs"]["seed"] for each in made] == [5, 6, 7]
    assert [each["2"]["inputs"]["noise_seed"] for each in made] == [SEEDS - 1, 0, 1]
    assert all(each[node] is GRAPH[node] for each in made for node in ("3", "4"))
    assert made[1]["1"]["inputs"] | {"seed": 5} == GRAPH["1"]["inputs"]


def test_without_a_seed_there_is_nothing_to_vary() -> None:
    with pytest.raises(InvalidInput, match="no seed"):
        with_seeds({"1": GRAPH["3"]}, 1)


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
