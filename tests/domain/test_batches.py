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


@pytest.mark.parametrize(("variations", "matrix", "count"), [(MAX_BATCH + 1, {}, 65), (2, {"cfg": []}, 0)])
def test_too_many_and_none_are_refused(variations: int, matrix: Any, count: int) -> None:
    with pytest.raises(InvalidInput, match=f"make {count} workflows"):
        combinations(variations, matrix)
