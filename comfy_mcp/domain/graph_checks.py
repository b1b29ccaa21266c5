"""Whether an engine will run a graph, said before it is sent.

The rules are those of ComfyUI's POST /prompt (recordings 05_validation_errors, 0.3.75 and 0.33.0):
- an unknown class anywhere refuses the whole graph;
- only what an output node needs through declared inputs is checked;
- a branch with a problem is dropped, and the graph is refused only when no branch is left;
- what the engine accepts and then hangs on for ever is refused.
Where the engine may know better (classes with their own validation, V3 inputs, uploads), a finding is a
warning and the engine decides.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from comfy_mcp.domain.errors import GraphProblem, InvalidGraph
from comfy_mcp.domain.graph import MAX_PROBLEMS, Graph, Node, invalid_graph
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.input_checks import Finding, check_inputs, followed_links
from comfy_mcp.domain.nearest import nearest
from comfy_mcp.domain.object_info import ObjectInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphReport:
    """`outputs`: output nodes whose branch is good; none of them means that no engine runs the graph.

    `needed`: every node that those outputs need. `dropped`: output node → why its branch won't run.
    `problems`: the first MAX_PROBLEMS of `problem_count`. `doubts`: what the engine may refuse or not.
    """

    outputs: tuple[NodeId, ...]
    needed: frozenset[NodeId]
    problems: tuple[GraphProblem, ...] = ()
    problem_count: int = 0
    dropped: Mapping[NodeId, str] = field(default_factory=dict)
    doubts: tuple[GraphProblem, ...] = ()

    @property
    def runnable(self) -> bool:
        return bool(self.outputs)

    @property
    def warnings(self) -> tuple[str, ...]:
        """For a runnable graph: one sentence per dropped output and per doubt."""
        dropped = (f"Output node {node} will not run: {reason}" for node, reason in self.dropped.items())
        return (*dropped, *(doubt.message for doubt in self.doubts))

    @property
    def may_be_stale(self) -> bool:
        """A finding that a newer /object_info may lift: a class or a file that has come since."""
        found = (*self.problems, *self.doubts)
        return any(item.kind in {"missing_node_type", "value_not_in_list"} for item in found)

    def error(self) -> InvalidGraph | None:
        """The error to raise, or None for a runnable graph."""
        return None if self.runnable else invalid_graph(self.problems, self.problem_count)


def check_graph(graph: Graph, info: ObjectInfo | None) -> GraphReport:
    """What would run of `graph`. Without `info`: links and loops only; outputs are the nodes that no
    other node uses.
    """
    if info is not None and (unknown := _unknown_classes(graph, info)):
        return _refused(unknown)
    outputs = _outputs(graph, info)
    if not outputs:
        return _refused([_no_output(graph, info)])
    links = {node.id: followed_links(node, info) for node in graph.nodes.values()}
    reachable = _reachable(outputs, links)
    stoppers = list(_stoppers(graph, info, reachable))
    findings = _findings(graph, info, reachable, links)
    problems = [finding for finding in findings if finding.certain]
    if stoppers:
        return _refused([finding.tell() for finding in (*stoppers, *problems)])
    causes = _causes(graph, problems, links)
    good = tuple(output for output in outputs if output not in causes)
    return GraphReport(
        outputs=good,
        needed=graph.upstream(*good),
        problems=tuple(finding.tell() for finding in problems[:MAX_PROBLEMS]),
        problem_count=len(problems),
        dropped={output: causes[output].tell().message for output in outputs if output in causes},
        doubts=tuple(finding.tell() for finding in findings if not finding.certain)[:MAX_PROBLEMS],
    )


def _refused(problems: list[GraphProblem]) -> GraphReport:
    return GraphReport(
        outputs=(),
        needed=frozenset(),
        problems=tuple(problems[:MAX_PROBLEMS]),
        problem_count=len(problems),
    )


def _unknown_classes(graph: Graph, info: ObjectInfo) -> list[GraphProblem]:
    unknown = [node for node in graph.nodes.values() if node.class_type not in info.classes]
    names = {node.class_type for node in unknown[:MAX_PROBLEMS]}
    hints = {name: nearest(name, info.classes) for name in names}
    return [_unknown_class(node, hints.get(node.class_type, ())) for node in unknown]


def _unknown_class(node: Node, hints: tuple[str, ...]) -> GraphProblem:
    hint = f" Nearest known: {', '.join(hints)}." if hints else ""
    return GraphProblem(
        kind="missing_node_type",
        message=f"Node {node.id}: this engine has no class {node.class_type!r}.{hint}",
        node_id=node.id,
        class_type=node.class_type,
        suggestions=hints,
    )


def _stoppers(graph: Graph, info: ObjectInfo | None, reachable: set[NodeId]) -> Iterator[Finding]:
    """Find what the engine accepts with a 200 and then hangs on, for everybody, until it is restarted.

    Seen on ComfyUI 0.3.75: a node without `inputs` anywhere in the graph, and a link to a node that does not
    exist in an input that the class does not declare (declared ones are checked and their branch is dropped).
    """
    for node in graph.nodes.values():
        if not node.has_inputs:
            text = "it needs an object `inputs` (it may be empty); ComfyUI stops working without it"
            yield Finding(node=node, kind="invalid_node", text=text)
        elif node.id in reachable:
            followed = followed_links(node, info)
            for name, link in node.links.items():
                if link.node not in graph.nodes and link.node not in followed:
                    text = f"it links to node {link.node}, which does not exist; ComfyUI stops working on it"
                    yield Finding(node=node, kind="bad_linked_input", text=text, input_name=name)


def _outputs(graph: Graph, info: ObjectInfo | None) -> tuple[NodeId, ...]:
    if info is not None:
        return tuple(node.id for node in graph.nodes.values() if info.classes[node.class_type].output_node)
    used = {link.node for node in graph.nodes.values() for link in node.links.values()}
    return tuple(node_id for node_id in graph.nodes if node_id not in used)


def _no_output(graph: Graph, info: ObjectInfo | None) -> GraphProblem:
    if info is None:
        loop = _loops(graph, {node.id: followed_links(node, None) for node in graph.nodes.values()})
        return next(loop).tell()  # every node is used by another one: there must be a loop
    hints = tuple(name for name in ("SaveImage", "PreviewImage") if name in info.classes)
    hint = f" Add one, such as {' or '.join(hints)}." if hints else ""
    return GraphProblem(
        kind="prompt_no_outputs",
        message=f"The workflow has no output node, so nothing would run.{hint}",
        suggestions=hints,
    )


def _reachable(outputs: tuple[NodeId, ...], links: Mapping[NodeId, tuple[NodeId, ...]]) -> set[NodeId]:
    seen: set[NodeId] = set()
    todo = list(outputs)
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo.extend(target for target in links[node] if target in links)
    return seen


def _findings(
    graph: Graph,
    info: ObjectInfo | None,
    reachable: set[NodeId],
    links: Mapping[NodeId, tuple[NodeId, ...]],
) -> list[Finding]:
    found = [
        finding
        for node in graph.nodes.values()
        if node.id in reachable
        for finding in check_inputs(node, graph, info)
    ]
    found.extend(_loops(graph, {node: links[node] for node in graph.nodes if node in reachable}))
    return found


def _causes(
    graph: Graph, problems: list[Finding], links: Mapping[NodeId, tuple[NodeId, ...]]
) -> Mapping[NodeId, Finding]:
    """Each node that can't run → the first problem among its inputs."""
    users: dict[NodeId, list[NodeId]] = {}
    for node, targets in links.items():
        for target in targets:
            users.setdefault(target, []).append(node)
    causes: dict[NodeId, Finding] = {}
    for problem in problems:
        todo = [problem.node.id]
        while todo:
            node = todo.pop()
            if node not in causes:
                causes[node] = problem
                todo.extend(users.get(node, ()))
    return causes


def _loops(graph: Graph, links: Mapping[NodeId, tuple[NodeId, ...]]) -> Iterator[Finding]:
    """One finding per loop met by a depth-first walk; iterative, for graphs deeper than Python's stack."""
    done: set[NodeId] = set()
    for root in links:
        path: dict[NodeId, Iterator[NodeId]] = {}
        if root not in done:
            path[root] = iter(links[root])
        while path:
            node, targets = next(reversed(path.items()))
            target = next(targets, None)
            if target is None:
                del path[node]
                done.add(node)
            elif target in path:
                members = list(path)
                yield _loop(graph, members[members.index(target) :])
            elif target not in done and target in links:
                path[target] = iter(links[target])


def _loop(graph: Graph, members: list[NodeId]) -> Finding:
    steps = [f"{node} ({graph.nodes[node].class_type})" for node in (*members, members[0])]
    shown = steps if len(steps) <= 10 else [*steps[:8], "…", steps[-1]]
    return Finding(
        node=graph.nodes[members[0]],
        kind="dependency_cycle",
        text=f"the links form a cycle: {' needs '.join(shown)}",
    )
