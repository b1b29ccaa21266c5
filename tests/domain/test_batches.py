"""Several workflows out of one graph."""

from typing import Any

import pytest

from comfy_mcp.domain.batches import MAX_BATCH, SEEDS, variants
from comfy_mcp.domain.errors import InvalidInput

GRAPH: dict[str, Any] = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 5, "cfg": 7.0, "model": ["4", 0]}},
    "2": {"class_type": "RandomNoise", "inputs": {"noise_seed": SEEDS - 1}},
    "3": {"class_type": "KSampler", "inputs": {"seed": ["2", 0], "cfg": 3.0}},
    "4": {"class_type": "Note"},
}


def test_variations_count_the_seeds_up_and_the_first_is_the_graph_itself() -> None:
    made = variants(GRAPH, variations=3, matrix={})
    assert made[0] == GRAPH
    assert [each["1"]["inputs"]["seed"] for each in made] == [5, 6, 7]
    assert [each["2"]["inputs"]["noise_seed"] for each in made] == [SEEDS - 1, 0, 1]
    assert {each["3"]["inputs"]["seed"][0] for each in made} == {"2"}, "a link stays"


def test_a_matrix_makes_every_combination_and_changes_nothing_else() -> None:
    made = variants(GRAPH, variations=2, matrix={"1.cfg": [1, 2], "noise_seed": [0, "random"]})
    seen = [
        (each["1"]["inputs"]["cfg"], each["2"]["inputs"]["noise_seed"], each["1"]["inputs"]["seed"])
        for each in made
    ]
    assert seen == [
        *((1, 0, 5), (1, 1, 6), (1, "random", 5), (1, "random", 6)),
        *((2, 0, 5), (2, 1, 6), (2, "random", 5), (2, "random", 6)),
    ]
    assert all(each["3"] is GRAPH["3"] for each in made)


def test_a_bare_name_is_that_of_every_node_that_has_a_value() -> None:
    (made,) = variants(GRAPH, variations=1, matrix={"cfg": [4.5]})
    assert [made[node]["inputs"]["cfg"] for node in ("1", "3")] == [4.5, 4.5]


@pytest.mark.parametrize(
    ("variations", "matrix", "said"),
    [
        (MAX_BATCH + 1, {}, "make 65 workflows"),
        (2, {"cfg": []}, "make 0 workflows"),
        (1, {"sed": [1]}, "the nearest: seed"),
        (1, {"2.seed": [1]}, "matrix names '2.seed'"),
        (1, {"9.zzzzzz": [1]}, "none"),
    ],
)
def test_what_can_be_no_batch_is_refused_with_the_reason(variations: int, matrix: Any, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        variants(GRAPH, variations=variations, matrix=matrix)
    assert said in f"{refused.value.message} {refused.value.next_step}"


def test_without_a_seed_there_is_nothing_to_vary() -> None:
    with pytest.raises(InvalidInput, match="no seed"):
        variants({"1": GRAPH["4"]}, variations=2, matrix={})
