"""Events of one prompt → one fraction over the whole graph that only grows.

Shares. Every node that the outputs need has a weight: the mean duration of its class in past runs, or a
default in the same unit. A node's share is its weight / the sum. Cached nodes are done at once; a node that
reports steps moves inside its share; a node is done when the next one starts (ComfyUI sends no end for
nodes without outputs). A node that expands at run time sends events of children such as "5.0.0.1": they
move inside the share of their ancestor in the graph. Only the end of a job is 1.0; before, CEILING.

Time left. The node that runs: by the pace of its own steps, once two were seen, else by past runs
(domain/node_times.py), less what has passed. What waits: by past runs. Nodes never observed count by
their weight against the node whose pace is known, if they weigh less than half of it. Anything else that is
not known makes the whole unknown, and so does a node that takes longer than it ever did.

Every event costs O(1), but for a resync, which walks what the running node needs once.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Final

from comfy_mcp.domain.events import (
    EngineConnected,
    EngineEvent,
    NodeExecuted,
    NodeProgressed,
    NodesCached,
    NodeStarted,
    PromptEnded,
    PromptStarted,
    PromptSucceeded,
)
from comfy_mcp.domain.graph import Graph, Node
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.node_times import LEAST_MS, NodeTimes, times_of

CEILING: Final = 0.999
"""The highest fraction while the prompt runs."""

_DEFAULT_WEIGHT: Final = 1.0
_SAMPLER_WEIGHT: Final = 10.0  # without history: in nearly every graph the sampler takes most of the time

_NOTHING: Final = 1e-6

OVERDUE: Final = 1.5
"""A node that runs this many times longer than in the past: nobody knows when it ends."""

UNSEEN: Final = 0.5
"""Most weight of nodes that were never observed, as a part of the node whose pace is known."""

MAX_NAME_CHARS: Final = 1_024
"""Of the name of a child that an engine reports: each of its dots may be the end of a node's name."""


class Progress:
    """One attempt's progress. Times are epoch milliseconds, and come in with each call."""

    def __init__(
        self,
        graph: Graph,
        needed: Collection[NodeId],
        durations: Mapping[str, float],
        *,
        started_at: int,
        times: Mapping[str, NodeTimes] | None = None,
    ) -> None:
        """`needed`: the nodes that count. `durations`: what past runs took, by the keys of `times`, which are
        `times_of` the graph."""
        self._graph = graph
        self._durations = durations
        self._times = times_of(graph) if times is None else times
        nodes = [graph.nodes[node] for node in needed if node in graph.nodes]
        means = {
            node.id: max(durations[node.class_type], LEAST_MS)
            for node in nodes
            if node.class_type in durations
        }
        unit = median(means.values()) if means else 1.0
        self._weights = {node.id: means.get(node.id, _prior(node) * unit) for node in nodes}
        self._total = sum(self._weights.values())
        self._earned = 0.0
        self._cached_weight = 0.0
        self._loaders = {node.id for node in nodes if "loader" in node.class_type.lower()}
        self._cold = bool(self._loaders)
        self._expected = self._expectations()
        self._left_ms = sum(self._expected.values())
        self._left_unseen = sum(
            weight for node, weight in self._weights.items() if node not in self._expected
        )
        self._steps: dict[NodeId, _Steps] = {}
        self._done: set[NodeId] = set()
        self._cached: set[NodeId] = set()
        self._parts: dict[NodeId, float] = {}
        self._child: NodeId | None = None
        self._child_base = 0.0
        self._started_at = started_at
        self._current: NodeId | None = None
        self._current_since: int | None = None
        self._spent: dict[NodeId, float] = {}
        self._missed_events = False
        self._runs_again = False
        self._fraction = 0.0

    @property
    def fraction(self) -> float:
        """In [0, CEILING]."""
        return self._fraction

    @property
    def current(self) -> Node | None:
        """The node that runs now, as it stands in the submitted graph."""
        return None if self._current is None else self._graph.nodes[self._current]

    @property
    def all_cached(self) -> bool:
        """The engine had the results of all nodes: it runs none."""
        return bool(self._weights) and self._cached.issuperset(self._weights)

    def apply(self, event: EngineEvent, now: int) -> bool:
        """Take in an event of this prompt. True if the fraction or the current node changed."""
        before = (self._fraction, self._current)
        match event:
            case PromptStarted():
                self._started_at = now
            case NodesCached(nodes=nodes):
                for node in nodes:
                    self._cache(node)
                self._warm()
            case NodeStarted(node=node):
                self._start(node, now)
            case NodeProgressed(node=node, value=value, maximum=maximum):
                self._step(node, value, maximum, now)
            case NodeExecuted(node=node):
                self._executed(node, now)
            case PromptSucceeded() | PromptEnded():
                self._leave_current(now)
            case EngineConnected():
                # Events were missed while the connection was lost: no duration can be trusted.
                self._missed_events = True
                self._current_since = None
            case _:
                pass
        self._grow()
        return before != (self._fraction, self._current)

    def eta_ms(self, now: int) -> int | None:
        """Milliseconds left, by the rule in the module's docstring. None: not known; if nodes run again,
        for nobody knows how often a loop goes round."""
        if self._runs_again or not self._weights:
            return None
        left, unseen, node = self._left_ms, self._left_unseen, self._current
        known = None if node is None else self._rest_of(node, now)
        if node in self._weights and node not in self._done:
            left -= self._expected.get(node, 0.0)
            unseen -= 0.0 if node in self._expected else self._weights[node]
            if known is None:
                return None
            left += known
        if unseen > _NOTHING:
            measured = self._measured_weight()
            if measured is None or unseen > UNSEEN * measured[0]:
                return None
            left += unseen * measured[1] / measured[0]
        return max(0, round(left))

    def observed(self) -> Mapping[str, list[float]]:
        """Key of node_times → milliseconds of each node that ran to its end here; never of cached nodes."""
        seen: dict[str, list[float]] = {}
        for node, spent in self._spent.items():
            if node in self._done and node not in self._cached:
                steps = self._steps.get(node)
                learnt = self._times[node].observed(
                    spent, None if steps is None else steps.step_ms(), cold=self._cold
                )
                for key, value in learnt.items():
                    seen.setdefault(key, []).append(value)
        return seen

    # ------------------------------------------------------------------ events

    def _cache(self, node: NodeId) -> None:
        if node in self._weights and node not in self._done:
            self._cached.add(node)
            self._cached_weight += self._weights[node]
            self._complete(node)

    def _start(self, reported: NodeId, now: int) -> None:
        node = self._known(reported)
        if node is None or node == self._current:
            return
        self._leave_current(now)
        self._runs_again |= node in self._done
        self._current, self._current_since = node, now
        self._resync(node)

    def _step(self, reported: NodeId, value: float, maximum: float, now: int) -> None:
        node = self._known(reported)
        if node is None:
            return
        if node != self._current and node not in self._done:
            # Its start was missed, or it runs beside another one: shown, but neither timed nor an end.
            self._current, self._current_since = node, None
            self._resync(node)
        part = value / maximum if maximum > 0 else 0.0
        if reported == node and 0 < part <= 1:
            self._steps.setdefault(node, _Steps()).seen(value, maximum, now)
        if 0 < part <= 1 and node in self._weights and node not in self._done:
            self._move(node, part if reported == node else self._inside(node, reported, part))

    def _executed(self, reported: NodeId, now: int) -> None:
        node = self._known(reported)
        if node is None or node != reported:
            return
        if node == self._current:
            self._leave_current(now)
        else:
            self._complete(node)

    # ------------------------------------------------------------------ bookkeeping

    def _known(self, reported: NodeId) -> NodeId | None:
        """The node of the graph that an event is about; "5.0.0.1" is a child of "5"."""
        name: str = reported if len(reported) <= MAX_NAME_CHARS or reported in self._graph.nodes else ""
        while name and name not in self._graph.nodes:
            name = name.rpartition(".")[0]
        return NodeId(name) if name else None

    def _inside(self, node: NodeId, child: NodeId, part: float) -> float:
        """The number of children is unknown: each one fills half of the rest of the share."""
        if child != self._child:
            self._child, self._child_base = child, self._parts.get(node, 0.0)
        return self._child_base + (1 - self._child_base) / 2 * part

    def _move(self, node: NodeId, part: float) -> None:
        gain = part - self._parts.get(node, 0.0)
        if gain > 0:
            self._parts[node] = part
            self._earned += gain * self._weights[node]

    def _complete(self, node: NodeId) -> None:
        if node in self._weights and node not in self._done:
            self._move(node, 1.0)
            self._done.add(node)
            if node in self._expected:
                self._left_ms -= self._expected[node]
            else:
                self._left_unseen -= self._weights[node]

    def _leave_current(self, now: int) -> None:
        node = self._current
        if node is None:
            return
        if self._current_since is not None:
            self._spent[node] = self._spent.get(node, 0.0) + max(0, now - self._current_since)
        self._current = self._current_since = None
        self._complete(node)

    def _resync(self, node: NodeId) -> None:
        """After missed events: mark as run what the running node needs."""
        if self._missed_events:
            self._missed_events = False
            for other in self._graph.upstream(node):
                if other != node:
                    self._complete(other)

    def _grow(self) -> None:
        if self._total > 0:
            self._fraction = max(self._fraction, min(self._earned / self._total, CEILING))

    def _expectations(self) -> dict[NodeId, float]:
        found = {node: self._times[node].expected(self._durations, cold=self._cold) for node in self._weights}
        return {node: max(value, LEAST_MS) for node, value in found.items() if value is not None}

    def _warm(self) -> None:
        """No loader runs: the model is there, and nothing has to be learnt of loading it."""
        if self._cold and self._loaders <= self._cached:
            self._cold = False
            self._expected = self._expectations()
            waiting = [node for node in self._weights if node not in self._done]
            self._left_ms = sum(self._expected.get(node, 0.0) for node in waiting)
            self._left_unseen = sum(self._weights[node] for node in waiting if node not in self._expected)

    def _rest_of(self, node: NodeId, now: int) -> float | None:
        """Milliseconds until the running node ends."""
        steps = self._steps.get(node)
        if steps is not None and (rest := steps.rest_ms(now)) is not None:
            return rest
        expected = self._expected.get(node)
        if expected is None or self._current_since is None:
            return None
        spent = max(0, now - self._current_since)
        return None if spent > OVERDUE * expected else max(expected - spent, 0.0)

    def _measured_weight(self) -> tuple[float, float] | None:
        """The weight and the milliseconds of the node that shows its pace."""
        for node, steps in self._steps.items():
            total = steps.total_ms()
            if total is not None and node in self._weights:
                return self._weights[node], total
        return None


@dataclass(slots=True)
class _Steps:
    """The steps of one node. Steps that begin again (a second pass) are counted from there."""

    first: tuple[float, int] | None = None
    last: tuple[float, int] | None = None
    maximum: float = 1.0

    def seen(self, value: float, maximum: float, now: int) -> None:
        if self.last is None or value < self.last[0] or maximum != self.maximum:
            self.first = value, now
        if self.last is None or value != self.last[0] or maximum != self.maximum:
            self.last = value, now
        self.maximum = maximum

    def step_ms(self) -> float | None:
        """The mean of those whose beginning and end were seen."""
        if self.first is None or self.last is None or self.last[0] <= self.first[0]:
            return None
        return (self.last[1] - self.first[1]) / (self.last[0] - self.first[0])

    def total_ms(self) -> float | None:
        step = self.step_ms()
        return None if step is None else step * self.maximum

    def rest_ms(self, now: int) -> float | None:
        """Never less than has passed since the last step."""
        step = self.step_ms()
        if step is None or self.last is None:
            return None
        passed = max(0, now - self.last[1])
        return max((self.maximum - self.last[0]) * step - passed, passed)


def _prior(node: Node) -> float:
    return _SAMPLER_WEIGHT if "sampler" in node.class_type.lower() else _DEFAULT_WEIGHT
