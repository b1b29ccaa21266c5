"""Several workflows out of one: other seeds, and every combination of some values."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from comfy_mcp.domain.errors import InvalidInput

MAX_BATCH = 64
"""Workflows of one submit."""

SEED_INPUTS = frozenset({"seed", "noise_seed"})
SEEDS = 2**64

Combination = tuple[dict[str, Any], int]
"""Values by name, and how far the seeds are counted up."""


def combinations(variations: int, matrix: Mapping[str, Sequence[Any]]) -> list[Combination]:
    """Each combination of the values of `matrix`, with `variations` seeds each. Raises InvalidInput."""
    empty = next((name for name, values in matrix.items() if not values), None)
    if empty is not None:
        raise InvalidInput(
            f"matrix: {empty!r:.60} has no values.", next_step="Give it at least one value, or leave it out."
        )
    if not 1 <= variations <= MAX_BATCH:
        raise InvalidInput(
            f"variations is {variations}; 1 to {MAX_BATCH} are allowed.",
            next_step="Leave it out for one workflow.",
        )
    workflows = variations
    for values in matrix.values():
        workflows *= len(values)
        if workflows > MAX_BATCH:
            raise InvalidInput(
                f"variations and matrix make more than {MAX_BATCH} workflows.",
                next_step="Ask for fewer variations, or give the names of matrix fewer values.",
            )
    return [
        (dict(zip(matrix, values, strict=True)), step)
        for values in product(*matrix.values())
        for step in range(variations)
    ]


def with_seeds(graph: Mapping[str, Any], step: int) -> dict[str, Any]:
    """The graph in API format with every seed counted up by `step`. Raises InvalidInput without any."""
    changed = dict(graph)
    if not step:
        return changed
    for node_id, node in graph.items():
        seeds = {name: value for name, value in node.get("inputs", {}).items() if _is_seed(name, value)}
        if seeds:
            counted = {name: (value + step) % SEEDS for name, value in seeds.items()}
            changed[node_id] = {**node, "inputs": {**node["inputs"], **counted}}
    if changed == graph:
        raise InvalidInput(
            "The workflow has no seed to vary.",
            next_step='Give the values instead, for example matrix={"cfg": [4, 7]}.',
        )
    return changed


def _is_seed(name: str, value: object) -> bool:
    """A value of its own: that of a linked input is another node's."""
    return name in SEED_INPUTS and isinstance(value, int)
