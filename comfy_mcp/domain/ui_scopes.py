"""A workflow with its subgraphs opened: which nodes an engine has to run, and under which ids.

Node 7 inside the subgraph that is node 3 becomes "3:7". A subgraph may be used many times and hold others, so
ten lines of JSON can ask for a billion nodes: what would come out is counted first, once for each subgraph.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NoReturn

from comfy_mcp.domain.errors import ErrorCode, GraphProblem, InvalidGraph, readable
from comfy_mcp.domain.graph import MAX_PROBLEMS
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.ui_format import BYPASSED, MAX_LEVELS, MUTED, UiGraph, UiNode, UiWorkflow

MAX_NODES = 20_000
"""Most nodes after all subgraphs are opened."""
MAX_INPUTS = 400_000
"""Most sockets and saved values of those nodes and of the subgraphs around them, together."""
MAX_TEXT = 16 * 2**20
"""Most characters of the graph that comes out: a long text in a subgraph comes out with each use of it."""
MAX_PREFIX = 2_000
"""Longest id of a subgraph in subgraphs."""

_SCALAR = 8
_SHOWN_ID = 200
CLOSED = "a subgraph in itself"
"""The type of a node that is left closed, because the subgraph that it is contains it."""
NOTES = frozenset({"Note", "MarkdownNote"})


MAX_STEPS = 2_000_000
"""Most sockets that are looked at while the links of one workflow are followed."""


Controls = dict[tuple[NodeId, str], list[tuple[NodeId, str]]]
"""By the control that a subgraph's node shows (its id, the name): the inputs in API format that it sets. The
name of one that is shown without an input of the subgraph has the id of the node inside before it."""


class OverBudget(Exception):
    """The workflow takes more work than the caller wants to do where it is."""


@dataclass(slots=True)
class Budget:
    """Counts the work on one workflow, so that no file takes more than its size deserves.

    `share` of the limits above is what may be spent. Beyond a whole share the workflow is refused with
    InvalidGraph; beyond a smaller one OverBudget is raised.
    """

    share: float = 1.0
    _steps: int = 0
    _written: int = 0
    _sizes: dict[int, tuple[object, int]] = field(default_factory=dict)

    def open(self, nodes: int, inputs: int) -> None:
        """Count the nodes and inputs of one more subgraph; stop at the bounds."""
        if nodes > MAX_NODES * self.share or inputs > MAX_INPUTS * self.share:
            self._end(
                f"With its subgraphs expanded, this workflow has more than {MAX_NODES} nodes "
                f"or {MAX_INPUTS} inputs and values."
            )

    def spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS * self.share:
            self._end(
                "The links of this workflow lead through too many bypassed nodes, reroutes and subgraphs."
            )

    def write(self, *values: object) -> None:
        """`values` come out. One that comes out again has been measured."""
        for value in values:
            if isinstance(value, list | Mapping):
                if id(value) not in self._sizes:
                    self._sizes[id(value)] = value, _length(value)  # with the value: its id stays its own
                self._written += self._sizes[id(value)][1]
            else:
                self._written += len(value) if isinstance(value, str) else _SCALAR
        if self._written > MAX_TEXT * self.share:
            self._end(f"With its subgraphs expanded, this workflow has more than {MAX_TEXT} characters.")

    def _end(self, message: str) -> NoReturn:
        if self.share < 1:
            raise OverBudget
        refuse(message)


def _length(value: object) -> int:
    """About the characters of `value` as JSON."""
    total, todo = 0, [value]
    while todo:
        each = todo.pop()
        if isinstance(each, Mapping):
            total += sum(map(len, map(str, each)))
            todo.extend(each.values())
        elif isinstance(each, list):
            todo.extend(each)
        else:
            total += len(each) if isinstance(each, str) else _SCALAR
    return total


@dataclass(frozen=True, slots=True)
class Scope:
    """A graph where it is used: inside node `instance` of `outer`, or at the top."""

    workflow: UiWorkflow
    graph: UiGraph
    budget: Budget
    prefix: str = ""
    outer: "tuple[Scope, UiNode] | None" = None

    def inside(self, node: UiNode) -> "Scope | None":
        """The subgraph that `node` is, or None for a node of a class."""
        graph = self.workflow.subgraphs.get(node.type)
        if graph is None:
            return None
        prefix = f"{self.prefix}{node.id}:"
        if len(prefix) > MAX_PREFIX:
            refuse("The ids of the subgraphs of this workflow are too long.")
        return Scope(self.workflow, graph, self.budget, prefix, (self, node))


@dataclass(frozen=True, slots=True)
class _Size:
    nodes: int = 0
    inputs: int = 0


def opened(
    workflow: UiWorkflow, budget: Budget, refused: list[GraphProblem]
) -> Iterator[tuple[Scope, UiNode]]:
    """Every node that is not a note and not switched off, inside subgraphs too, in the order of the file.

    `refused` is filled with the subgraphs that contain themselves: there, they are left closed. Raises
    InvalidGraph for a nest that is too deep, and what `budget` raises.
    """
    sizes, rings = _sizes(workflow)
    if rings:
        refused.extend(problem for problem in rings.values())
        workflow = _without(workflow, rings)
        sizes, _ = _sizes(workflow)
    total = _size(workflow, workflow.top, sizes)
    budget.open(total.nodes, total.inputs)
    top = Scope(workflow, workflow.top, budget)
    todo = [iter([(top, node) for node in _on(workflow, workflow.top)])]
    while todo:
        found = next(todo[-1], None)
        if found is None:
            todo.pop()
            continue
        scope, node = found
        inside = scope.inside(node)
        if inside is None:
            yield found
        elif sizes[node.type].nodes:
            todo.append(iter([(inside, each) for each in _on(workflow, inside.graph)]))


def refuse(message: str, node: str | None = None) -> NoReturn:
    raise refusal([ui_problem(message, node)])


def ui_problem(
    message: str, node: str | None = None, kind: str | None = None, name: str | None = None
) -> GraphProblem:
    return GraphProblem(
        kind="graph_ui_format", message=message, node_id=node, class_type=kind, input_name=name
    )


def refusal(
    problems: Sequence[GraphProblem],
    *,
    lacks: str = "",
    next_step: str = "",
    details: Mapping[str, object] = MappingProxyType({}),
) -> InvalidGraph:
    """The error about what can't be converted, first, and what else is wrong. `lacks`: what is
    missing, in a sentence."""
    shown = readable([each.message for each in problems[:MAX_PROBLEMS]])
    more = len(problems) - len(shown)
    return InvalidGraph(
        " ".join([*shown, *([f"And {more} more faults."] if more else []), *([lacks] if lacks else [])]),
        next_step=f"In ComfyUI choose Workflow > Export (API) and submit that file. {next_step}".strip(),
        problems=problems[:MAX_PROBLEMS],
        code=ErrorCode.GRAPH_UI_FORMAT,
        details=details,
    )


def _on(workflow: UiWorkflow, graph: UiGraph) -> Iterator[UiNode]:
    """What is not switched off. A subgraph inside a subgraph is opened all the same, as the editor does it:
    what is outside gets around it, but an output node inside runs."""
    nested = graph is not workflow.top
    for node in graph.nodes.values():
        off = node.mode in {MUTED, BYPASSED} and not (nested and node.type in workflow.subgraphs)
        if not off and node.type not in NOTES:
            yield node


def _size(workflow: UiWorkflow, graph: UiGraph, inside: Mapping[str, _Size]) -> _Size:
    nodes = inputs = 0
    for node in _on(workflow, graph):
        held = inside.get(node.type, _Size()) if node.type in workflow.subgraphs else None
        if held is not None and not held.nodes:
            continue  # it holds nothing, and is not opened
        values = len(node.values) if isinstance(node.values, list | Mapping) else 0
        named = 0 if node.named is None else len(node.named)
        nodes += 1 + (held.nodes if held else 0)
        inputs += 1 + len(node.inputs) + values + named + len(node.promoted) + (held.inputs if held else 0)
    return _Size(nodes, inputs)


def _without(workflow: UiWorkflow, nodes: Collection[tuple[str, str]]) -> UiWorkflow:
    """`nodes`: (subgraph, node) of those that are no subgraphs any more."""
    subgraphs = dict(workflow.subgraphs)
    for name, node in nodes:
        graph = subgraphs[name]
        closed = replace(graph.nodes[node], type=CLOSED)
        subgraphs[name] = replace(graph, nodes={**graph.nodes, node: closed})
    return replace(workflow, subgraphs=subgraphs)


def _sizes(
    workflow: UiWorkflow,
) -> tuple[Mapping[str, _Size], Mapping[tuple[str, str], GraphProblem]]:
    """What each subgraph that is used opens to, and the nodes (subgraph, node) by which one contains itself;
    without recursion, for files that nest deeper than Python."""
    sizes: dict[str, _Size] = {}
    rings: dict[tuple[str, str], GraphProblem] = {}
    path: dict[str, Iterator[UiNode]] = {"": iter(_held(workflow, workflow.top))}
    ids: list[str] = []
    while path:
        name, held = next(reversed(path.items()))
        node = next(held, None)
        if node is None:
            del path[name]
            del ids[-1:]
            if name:
                sizes[name] = _size(workflow, workflow.subgraphs[name], sizes)
        elif node.type in path:
            host, again = _joined(ids[: [*path].index(node.type)]), _joined([*ids, node.id])
            message = f"Node {host} is a subgraph that contains itself, as node {again}."
            rings[name, node.id] = ui_problem(message, host)
        elif node.type not in sizes:
            path[node.type] = iter(_held(workflow, workflow.subgraphs[node.type]))
            ids.append(node.id)
            if len(path) > MAX_LEVELS:
                host = _joined(ids[:1])
                deep = f"nested more than {MAX_LEVELS} levels deep"
                refuse(f"Node {host} holds subgraphs that are {deep}.", host)
    return sizes, rings


def _joined(ids: list[str]) -> str:
    node = ":".join(ids)
    return node if len(node) <= _SHOWN_ID else f"{node[:_SHOWN_ID]}…"


def _held(workflow: UiWorkflow, graph: UiGraph) -> list[UiNode]:
    return [node for node in _on(workflow, graph) if node.type in workflow.subgraphs]
