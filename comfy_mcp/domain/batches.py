"""Several workflows out of one: other seeds, and every combination of some values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.nearest import nearest

MAX_BATCH = 64
"""Workflows of one submit."""

SEED_INPUTS = ("seed", "noise_seed")
SEEDS = 2**64

Place = tuple[str, str]
"""A node's id and the name of one of its inputs."""


def variants(
    graph: Mapping[str, Any], *, variations: int, matrix: Mapping[str, Sequence[Any]]
) -> list[dict[str, Any]]:
    """Graphs in API format: each combination of the values of `matrix`, with `variations` seeds each. The
    first has the graph's own seed, the next ones those that follow it.

    A name of `matrix` is "node.input", or an input's name: then all nodes that have a value for it get it.
    Raises InvalidInput.
    """
    count = variations * math.prod(len(values) for values in matrix.values())
    if not 1 <= count <= MAX_BATCH:
        raise InvalidInput(
            f"variations and matrix make {count} workflows; 1 to {MAX_BATCH} are allowed.",
            next_step="Give each name of matrix at least one value, and fewer of them in all.",
        )
    places = {name: _places(graph, name) for name in matrix}
    seeds = [place for name in SEED_INPUTS for place in _having(graph, name)] if variations > 1 else []
    if variations > 1 and not seeds:
        raise InvalidInput(
            "The workflow has no seed to vary.",
            next_step='Give the values instead, for example matrix={"cfg": [4, 7]}.',
        )
    return [
        _with(graph, places, dict(zip(matrix, values, strict=True)), seeds, step)
        for values in product(*matrix.values())
        for step in range(variations)
    ]


def _with(
    graph: Mapping[str, Any],
    places: Mapping[str, Sequence[Place]],
    values: Mapping[str, Any],
    seeds: Sequence[Place],
    step: int,
) -> dict[str, Any]:
    changed = dict(graph)
    for name, value in values.items():
        for node, key in places[name]:
            changed[node] = _node_with(changed[node], key, value)
    for node, key in seeds:
        seed = changed[node]["inputs"][key]
        if isinstance(seed, int):
            changed[node] = _node_with(changed[node], key, (seed + step) % SEEDS)
    return changed


def _node_with(node: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    return {**node, "inputs": {**node["inputs"], key: value}}


def _places(graph: Mapping[str, Any], name: str) -> list[Place]:
    node, dot, key = name.partition(".")
    found = [place for place in _having(graph, key) if place[0] == node] if dot else _having(graph, name)
    if not found:
        names = {key for _, key in _values(graph)}
        near = ", ".join(nearest(key if dot else name, names, 3))
        raise InvalidInput(
            f"matrix names {name!r}, for which no node has a value.",
            next_step=f'Use the name of an input or "node.input"; the nearest: {near or "none"}.',
        )
    return found


def _having(graph: Mapping[str, Any], key: str) -> list[Place]:
    return [place for place in _values(graph) if place[1] == key]


def _values(graph: Mapping[str, Any]) -> Iterator[Place]:
    """Inputs with a value of their own; those that are linked have none."""
    for node_id, node in graph.items():
        for key, value in node.get("inputs", {}).items():
            if not isinstance(value, list):
                yield node_id, key
