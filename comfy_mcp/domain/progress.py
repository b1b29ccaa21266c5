"""Events of one prompt → one fraction over the whole graph that only grows.

Shares. Every node that the outputs need has a weight: the mean duration of its class in past runs, or a
default in the same unit. A node's share is its weight / the sum. Cached nodes are done at once; a node that
reports steps moves inside its share; a node is done when the next one starts (ComfyUI sends no end for
nodes without outputs). A node that expands at run time sends events of children such as "5.0.0.1": they
move inside the share of their ancestor in the graph. Only the end of a job is 1.0; before, CEILING.

ETA. Two estimates, each only on evidence:
- by history: the known durations of what is left, when every class left has one;
- by pace: elapsed * (1 - f) / f, when the part f of the work outside the cache is at least PACE_FROM.
With both, the mean weighted 1 - f and f: history counts at the start, this run's own pace at the end.

Every event costs O(1), but for a resync, which walks what the running node needs once.
"""

from collections.abc import Collection, Mapping
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

CEILING: Final = 0.999
"""The highest fraction while the prompt runs."""

PACE_FROM: Final = 0.1
"""How much of the uncached work must be done before this run's pace counts as evidence."""

_DEFAULT_WEIGHT: Final = 1.0
_SAMPLER_WEIGHT: Final = 10.0  # without history: in nearly every graph the sampler takes most of the time
_LEAST_MS: Final = 1.0


class Progress:
    """One attempt's progress. Times are epoch milliseconds, and come in with each call."""

    def __init__(
        self,
        graph: Graph,
        needed: Collection[NodeId],
        durations: Mapping[str, float],
        *,
        started_at: int,
    ) -> None:
        """`needed`: the nodes that count. `durations`: class_type → mean milliseconds of past runs."""
        self._graph = graph
        nodes = [graph.nodes[node] for node in needed if node in graph.nodes]
        self._expected = {
            node.id: max(durations[node.class_type], _LEAST_MS)
            for node in nodes
            if node.class_type in durations
        }
        unit = median(self._expected.values()) if self._expected else 1.0
        self._weights = {node.id: self._expected.get(node.id, _prior(node) * unit) for node in nodes}
        self._total = sum(self._weights.values())
        self._earned = 0.0
        self._cached_weight = 0.0
        self._left_ms = sum(self._expected.values())
        self._left_unknown = len(self._weights) - len(self._expected)
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

    def apply(self, event: EngineEvent, now: int) -> bool:
        """Take in an event of this prompt. True if the fraction or the current node changed."""
        before = (self._fraction, self._current)
        match event:
            case PromptStarted():
                self._started_at = now
            case NodesCached(nodes=nodes):
                for node in nodes:
                    self._cache(node)
            case NodeStarted(node=node):
                self._start(node, now)
            case NodeProgressed(node=node, value=value, maximum=maximum):
                self._step(node, value, maximum)
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
        """Milliseconds left, by the rule in the module's docstring. None without evidence, and when nodes run
        again: nobody knows how often a loop goes round."""
        if self._runs_again:
            return None
        work = self._total - self._cached_weight
        done = (self._earned - self._cached_weight) / work if work > 0 else 0.0
        by_history = self._history_ms(now) if self._left_unknown <= 0 and self._expected else None
        elapsed = now - self._started_at
        by_pace = elapsed * (1 - done) / done if done >= PACE_FROM and elapsed > 0 else None
        if by_history is None or by_pace is None:
            left = by_pace if by_history is None else by_history
        else:
            left = (1 - done) * by_history + done * by_pace
        return None if left is None else max(0, round(left))

    def observed(self) -> Mapping[str, list[float]]:
        """class_type → milliseconds of each node that ran to its end here; never of cached nodes."""
        seen: dict[str, list[float]] = {}
        for node, spent in self._spent.items():
            if node in self._done and node not in self._cached:
                seen.setdefault(self._graph.nodes[node].class_type, []).append(spent)
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

    def _step(self, reported: NodeId, value: float, maximum: float) -> None:
        node = self._known(reported)
        if node is None:
            return
        if node != self._current and node not in self._done:
            # Its start was missed, or it runs beside another one: shown, but neither timed nor an end.
            self._current, self._current_since = node, None
            self._resync(node)
        part = value / maximum if maximum > 0 else 0.0
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
        name: str = reported
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
            self._left_ms -= gain * self._expected.get(node, 0.0)

    def _complete(self, node: NodeId) -> None:
        if node in self._weights and node not in self._done:
            self._move(node, 1.0)
            self._done.add(node)
            self._left_unknown -= node not in self._expected

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

    def _history_ms(self, now: int) -> float:
        """The remaining time by past durations, less the time spent in a node that reports no steps."""
        left = self._left_ms
        node = self._current
        if node is not None and self._current_since is not None and node not in self._parts:
            left -= min(max(0, now - self._current_since), self._expected.get(node, 0.0))
        return float(left)


def _prior(node: Node) -> float:
    return _SAMPLER_WEIGHT if "sampler" in node.class_type.lower() else _DEFAULT_WEIGHT
