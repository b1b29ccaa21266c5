"""A workflow with its subgraphs opened: which nodes an engine has to run, and under which ids.

Node 7 inside the subgraph that is node 3 becomes "3:7". A subgraph may be used many times and hold others, so
ten lines of JSON can ask for a billion nodes: what would come out is counted first, once for each subgraph.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from comfy_mcp.domain.errors import ErrorCode, GraphProblem, InvalidGraph
from comfy_mcp.domain.ui_format import BYPASSED, MAX_LEVELS, MUTED, UiGraph, UiNode, UiWorkflow

MAX_NODES = 20_000
"""Most nodes after all subgraphs are opened."""
MAX_INPUTS = 400_000
"""Most sockets and saved values of those nodes, together."""

NOTES = frozenset({"Note", "MarkdownNote"})


MAX_STEPS = 2_000_000
"""Most sockets that are looked at while the links of one workflow are followed."""


@dataclass(slots=True)
class Steps:
    """Counts, so that no file makes the walk along its links longer than its size deserves."""

    taken: int = 0

    def spend(self, count: int) -> None:
        self.taken += count
        if self.taken > MAX_STEPS:
            refuse("The links of this workflow lead through too many bypassed nodes, reroutes and subgraphs.")


@dataclass(frozen=True, slots=True)
class Scope:
    """A graph where it is used: inside node `instance` of `outer`, or at the top."""

    workflow: UiWorkflow
    graph: UiGraph
    steps: Steps
    prefix: str = ""
    outer: "tuple[Scope, UiNode] | None" = None

    def inside(self, node: UiNode) -> "Scope | None":
        """The subgraph that `node` is, or None for a node of a class."""
        graph = self.workflow.subgraphs.get(node.type)
        if graph is None:
            return None
        return Scope(self.workflow, graph, self.steps, f"{self.prefix}{node.id}:", (self, node))


@dataclass(frozen=True, slots=True)
class _Size:
    nodes: int = 0
    inputs: int = 0


def opened(workflow: UiWorkflow) -> Iterator[tuple[Scope, UiNode]]:
    """Every node that is not a note and not switched off, inside subgraphs too, in the order of the file.

    Raises InvalidGraph for a subgraph that contains itself and for more than the limits above.
    """
    sizes = _sizes(workflow)
    total = _size(workflow, workflow.top, sizes)
    if total.nodes > MAX_NODES or total.inputs > MAX_INPUTS:
        refuse(
            f"With its subgraphs expanded, this workflow has more than {MAX_NODES} nodes "
            f"or {MAX_INPUTS} inputs and values."
        )
    top = Scope(workflow, workflow.top, Steps())
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


def refuse(message: str) -> NoReturn:
    raise InvalidGraph(
        message,
        next_step="In ComfyUI choose Workflow > Export (API) and submit that file.",
        problems=(GraphProblem(kind="graph_ui_format", message=message),),
        code=ErrorCode.GRAPH_UI_FORMAT,
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
        held = inside.get(node.type)
        values = len(node.values) if isinstance(node.values, list | Mapping) else 0
        nodes += 1 if held is None else held.nodes
        inputs += len(node.inputs) + values if held is None else held.inputs
    return _Size(nodes, inputs)


def _sizes(workflow: UiWorkflow) -> Mapping[str, _Size]:
    """What each subgraph that is used opens to; without recursion, for files that nest deeper than Python."""
    sizes: dict[str, _Size] = {}
    path: dict[str, Iterator[str]] = {"": iter(_held(workflow, workflow.top))}
    while path:
        name, held = next(reversed(path.items()))
        below = next(held, None)
        if below is None:
            del path[name]
            if name:
                sizes[name] = _size(workflow, workflow.subgraphs[name], sizes)
        elif below in path:
            refuse("A subgraph of this workflow contains itself.")
        elif below not in sizes:
            path[below] = iter(_held(workflow, workflow.subgraphs[below]))
            if len(path) > MAX_LEVELS:
                refuse(f"The subgraphs of this workflow are nested more than {MAX_LEVELS} levels deep.")
    return sizes


def _held(workflow: UiWorkflow, graph: UiGraph) -> list[str]:
    return [node.type for node in _on(workflow, graph) if node.type in workflow.subgraphs]
