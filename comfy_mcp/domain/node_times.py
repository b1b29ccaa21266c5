"""What the duration of a node depends on, and what past runs say of it.

A node that works in steps takes start + steps x megapixels x batch x pace. Pace and start are learnt for each
class and model, and the start apart for runs that had to load the model (cold) and others (warm). A node
beside a VAE is learnt by class, model and size. Every other one is learnt by its class alone. What was not
observed is not known: no other model's or size's duration stands for it.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from comfy_mcp.domain.catalog import is_model_file
from comfy_mcp.domain.graph import Graph, Node

LOOKED_AT = 64
"""Nodes that are looked at for what one depends on: the nearest ones upstream."""

WORKERS = 50
"""Nodes of a graph that get more than their class; the others count by that."""

KINDS_KEPT = 1_024
"""Classes of nodes whose kind is remembered."""

MOST_LARGER = 1e4
KEY_CHARS = 200
LEAST_MS = 1.0
_COUNTS = ("batch_size", "length", "frames", "num_frames")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTimes:
    """Under which keys a node's durations are learnt. `units`: megapixels x batch, what one step works on."""

    plain: str
    exact: str | None = None
    pace: str | None = None
    start: str | None = None
    cold: str | None = None
    steps: float | None = None
    units: float = 1.0

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for key in (self.plain, self.exact, self.pace, self.start, self.cold) if key)

    def expected(self, known: Mapping[str, float], *, cold: bool) -> float | None:
        """Milliseconds, by what past runs took. None: nothing like it was observed."""
        if self.pace is not None:
            pace, start = known.get(self.pace), known.get((self.cold if cold else self.start) or "")
            if pace is None or start is None or self.steps is None:
                return None
            return start + pace * self.steps * self.units
        return known.get(self.exact or self.plain)

    def observed(self, spent_ms: float, step_ms: float | None, *, cold: bool) -> dict[str, float]:
        """What a run teaches. `step_ms`: the mean of its steps."""
        learnt = {self.plain: spent_ms}
        if self.exact is not None:
            learnt[self.exact] = spent_ms
        if self.pace is not None and self.steps is not None and step_ms is not None:
            learnt[self.pace] = step_ms / self.units
            learnt[(self.cold if cold else self.start) or ""] = max(0.0, spent_ms - step_ms * self.steps)
        return learnt


def times_of(graph: Graph) -> dict[str, NodeTimes]:
    """Of every node, by its id. Nodes of one class that does no steps share theirs."""
    found: dict[str, NodeTimes] = {}
    workers = 0
    for node in graph.nodes.values():
        kind = _kind_of(node.class_type)
        if (kind.stepped or kind.sized) and workers < WORKERS:
            workers += 1
            found[node.id] = _of_worker(graph, node, stepped=kind.stepped)
        else:
            found[node.id] = kind.plain
    return found


def keys_of(times: Mapping[str, NodeTimes]) -> set[str]:
    """Under which anything is learnt of the nodes of a graph."""
    different = {id(each): each for each in times.values()}
    return {key for each in different.values() for key in each.keys}


@dataclass(frozen=True, slots=True)
class _Kind:
    """Of a class of nodes: what its time depends on, and what is known of a node of which nothing else is."""

    stepped: bool
    sized: bool
    plain: NodeTimes


@lru_cache(KINDS_KEPT)
def _kind_of(class_type: str) -> _Kind:
    kind = class_type.lower()
    return _Kind(
        stepped="sampler" in kind and "select" not in kind,
        sized="vae" in kind and "loader" not in kind,
        plain=NodeTimes(plain=class_type[:KEY_CHARS]),
    )


def _of_worker(graph: Graph, node: Node, *, stepped: bool) -> NodeTimes:
    seen = _nearest(graph, node)
    width, height = _number(seen, "width"), _number(seen, "height")
    batch = _scaled(seen)
    for name in _COUNTS:
        batch *= _number(seen, name) or 1.0
    units = max(width * height * batch / 1e6, 1e-6) if width and height else 1.0
    model = next((value for value in _values(seen) if _is_model(value)), "")
    name = f"{node.class_type}|{model}"[:KEY_CHARS]
    plain = node.class_type[:KEY_CHARS]
    if not stepped:
        return NodeTimes(plain=plain, exact=f"{name}|{units:.3g}")
    steps = _number(seen, "steps")
    keys = {key: f"{name}|{key}" for key in ("pace", "start", "cold")}
    return NodeTimes(plain=plain, steps=steps, units=units, **keys)


def _nearest(graph: Graph, node: Node) -> list[Node]:
    """The node and what it needs, nearest first."""
    seen, todo, order = {node.id}, deque([node]), [node]
    while todo and len(order) < LOOKED_AT:
        for link in todo.popleft().links.values():
            other = graph.nodes.get(link.node)
            if other is not None and other.id not in seen:
                seen.add(other.id)
                todo.append(other)
                order.append(other)
    return order


def _number(nodes: list[Node], name: str) -> float | None:
    """The nearest value of an input: of a node itself, or of one that it needs."""
    for node in nodes:
        value = node.inputs.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9:
            return float(value)
    return None


def _scaled(nodes: list[Node]) -> float:
    """How many times more pixels there are than where a size stands, by what makes them larger on the way."""
    times = 1.0
    for node in nodes:
        if "width" in node.inputs:
            break
        by = _number([node], "scale_by") or 1.0
        times = min(times * by * by, MOST_LARGER)
    return times


def _values(nodes: list[Node]) -> list[Any]:
    return [value for node in nodes for value in node.inputs.values()]


def _is_model(value: object) -> bool:
    return isinstance(value, str) and is_model_file(value)
