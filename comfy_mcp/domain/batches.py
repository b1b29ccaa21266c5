"""Several workflows out of one: other seeds, and every combination of some values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.graph import Graph
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.parameters import Parameter, Target

MAX_BATCH = 64
"""Workflows of one submit."""

SEEDS = 2**64
"""Values of a seed whose node names no limits."""

Combination = tuple[dict[str, Any], int]
"""Values by name, and how far the seeds are counted up."""


@dataclass(frozen=True, slots=True)
class Seed:
    """An input with a seed of its own: that of a linked input is another node's."""

    node: NodeId
    name: str
    lowest: int = 0
    highest: int = SEEDS - 1

    def counted(self, value: int, step: int) -> int:
        """Beyond the highest it goes on with the lowest."""
        return self.lowest + (value - self.lowest + step) % (self.highest - self.lowest + 1)


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


def seeds_of(graph: Graph, parameters: Sequence[Parameter]) -> tuple[Seed, ...]:
    """Inputs that are called a seed, and what is linked to one, such as a constant's value."""
    found: dict[Target, Seed] = {}
    for each in parameters:
        if _is_seed(each.name):
            found |= {target: _within_limits(target, each) for target in each.targets}
    for node in graph.nodes.values():
        for name in node.inputs:
            if _is_seed(name):
                found.setdefault((node.id, name), Seed(node.id, name))
    return tuple(each for each in found.values() if _value(graph.raw, each) is not None)


def _is_seed(name: str) -> bool:
    """`seed`, `noise_seed`, `seed_2`"""
    return name.rstrip("_0123456789").endswith("seed")


def _within_limits(target: Target, parameter: Parameter) -> Seed:
    lowest = 0 if parameter.minimum is None else int(parameter.minimum)
    highest = SEEDS - 1 if parameter.maximum is None else int(parameter.maximum)
    return Seed(*target, lowest, max(lowest, highest))


def _value(raw: Mapping[str, Any], seed: Seed) -> int | None:
    value = raw[seed.node].get("inputs", {}).get(seed.name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def with_seeds(raw: Mapping[str, Any], seeds: Sequence[Seed], step: int) -> dict[str, Any]:
    """The graph in API format with every seed counted up by `step`; seeds that were the same stay so."""
    changed = dict(raw)
    for each in seeds if step else ():
        value = _value(changed, each)
        if value is not None:
            node = changed[each.node]
            inputs = {**node["inputs"], each.name: each.counted(value, step)}
            changed[each.node] = {**node, "inputs": inputs}
    return changed


def with_new_seeds(raw: Mapping[str, Any], seeds: Sequence[Seed], random: int) -> dict[str, Any]:
    """The graph with seeds of which no variation has the one that was there. `random` has 31 bits: nodes that
    name no limits take such seeds."""
    return with_seeds(raw, seeds, MAX_BATCH + random)


def require_other(raw: Mapping[str, Any], before: Mapping[str, Any], seeds: Sequence[Seed]) -> None:
    """Raises InvalidInput for a variation that is the same workflow as the one before it."""
    if raw != before:
        return
    if seeds:
        raise InvalidInput(
            "matrix gives the seeds, so that variations has none to vary.",
            next_step="Leave variations out, or the seed in matrix.",
        )
    raise InvalidInput(
        "The workflow has no seed to vary.",
        next_step='Give the values instead, for example matrix={"cfg": [4, 7]}.',
    )
