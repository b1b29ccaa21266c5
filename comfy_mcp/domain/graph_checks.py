"""Whether an engine will run a graph, said before it is sent.

The rules are those of ComfyUI's POST /prompt (recordings 05_validation_errors, 0.3.75 and 0.33.0):
- an unknown class anywhere refuses the whole graph;
- only what an output node needs through declared inputs is checked;
- a branch with a problem is dropped, and the graph is refused only when no branch is left;
- what the engine accepts and then hangs on for ever is refused.
Where the engine may know better (classes with their own validation, V3 inputs, uploads), a finding is a
warning and the engine decides.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from comfy_mcp.domain.errors import GraphProblem, InvalidGraph
from comfy_mcp.domain.graph import MAX_PROBLEMS, Graph, invalid_graph
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.input_checks import Declared, Finding, check_inputs, declared_inputs, followed_links
from comfy_mcp.domain.missing import Missing, ModelLink, missing_classes, missing_models
from comfy_mcp.domain.nearest import Hints
from comfy_mcp.domain.object_info import ObjectInfo

MAX_WARNED = 50
_SHOWN_NODES = 5
_SHOWN_LOOP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphReport:
    """`outputs`: output nodes whose branch is good; none of them means that no engine runs the graph.

    `needed`: every node that those outputs need. `dropped`: output node → the first problem of its branch,
    which won't run; of the first MAX_PROBLEMS.
    `problems`: the first MAX_PROBLEMS of `problem_count`, in the order of the nodes; an unknown class is one.
    `doubts`: what the engine may refuse or not. `notes`: what it accepts and drops, or does not run. Of each
    kind the first MAX_WARNED, and one that counts the others.
    `missing`: everything that the engine lacks, whole.
    """

    outputs: tuple[NodeId, ...]
    needed: frozenset[NodeId]
    problems: tuple[GraphProblem, ...] = ()
    problem_count: int = 0
    dropped: Mapping[NodeId, GraphProblem | None] = field(default_factory=dict)
    doubts: tuple[GraphProblem, ...] = ()
    notes: tuple[GraphProblem, ...] = ()
    missing: Missing = field(default_factory=Missing)

    @property
    def runnable(self) -> bool:
        return bool(self.outputs)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence each, in all: of a runnable graph the outputs that will not run, the faults of their
        branches and what the engine lacks, which the error of any other has; doubts and notes of both."""
        doubts = (each.message for each in self.doubts if not self.missing.covers(each))
        faults = self._faults() if self.runnable else ()
        return (*faults, *doubts, *(each.message for each in self.notes))

    def _faults(self) -> Iterator[str]:
        said: set[GraphProblem] = set()
        for node, cause in self.dropped.items():
            if cause is not None:
                said.add(cause)
                lacks = self.missing.covers(cause)
                why = f"node {cause.node_id} needs a model file that is missing." if lacks else cause.message
                yield f"Output node {node} will not run: {why}"
        if len(self.dropped) > MAX_PROBLEMS:
            yield f"And {len(self.dropped) - MAX_PROBLEMS} more output nodes will not run."
        for problem in self.problems:
            if problem not in said and not self.missing.covers(problem):
                yield problem.message
        if self.problem_count > len(self.problems):
            yield f"And {self.problem_count - len(self.problems)} more faults of nodes that will not run."
        if self.missing:
            yield self.missing.in_a_sentence()

    @property
    def may_be_stale(self) -> bool:
        """A finding that a newer /object_info may lift: a class or a file that has come since."""
        found = (*self.problems, *self.doubts)
        return any(item.kind in {"missing_node_type", "value_not_in_list"} for item in found)

    def without_doubts(self, about: Collection[tuple[str, str]]) -> "GraphReport":
        """`about`: (node, input) of values that were asked about since."""
        if not about:
            return self
        left = (each for each in self.doubts if (each.node_id or "", each.input_name or "") not in about)
        return replace(self, doubts=tuple(left), missing=self.missing.without_models(about))

    def error(self) -> InvalidGraph | None:
        """The error to raise, or None for a runnable graph."""
        if self.runnable:
            return None
        if not self.missing:
            return invalid_graph(self.problems, self.problem_count)
        count = self.problem_count - self.missing.problem_count
        return invalid_graph(
            self.problems,
            count,
            lacks=self.missing.sentence(),
            others=[problem for problem in self.problems if not self.missing.covers(problem)],
            next_step=f"{self.missing.next_step}{' Then correct the rest.' if count else ''}",
            details=self.missing.details(),
        )


def check_graph(
    graph: Graph, info: ObjectInfo | None, models: Mapping[str, ModelLink] = MappingProxyType({})
) -> GraphReport:
    """What would run of `graph`. Without `info`: links and loops only; outputs are the nodes that no
    other node uses. `models`: where the workflow's author got model files, by their names.
    """
    outputs = _outputs(graph, info)
    hints = Hints()
    missing = missing_classes(graph, info, hints)
    if not outputs and not missing.nodes:
        beside = list(_spare(graph, info, set()))
        missing = replace(missing, models=missing_models(beside, models, Hints()))
        return _refused([_no_output(graph, info)], beside, 1, missing)
    declared = _declared(graph, info)
    links = _links(graph, declared)
    reachable, broken = _reachable(outputs, links)
    # Behind a link that leads nowhere any node may have been meant: all that is wrong comes in one answer.
    checked = set(graph.nodes) if broken else reachable
    findings = _findings(graph, info, checked, declared, links)
    spare = list(_spare(graph, info, checked)) if missing.nodes else []
    if lacking := missing_models([*findings, *spare], models, Hints()):
        missing = replace(missing, models=lacking)
    problems = [finding for finding in findings if finding.certain]
    stoppers = list(_stoppers(graph, reachable, links))
    if stoppers or missing.nodes:
        first = [*_told(stoppers, hints), *missing.problems()]
        count = len(stoppers) + len(missing.nodes) + len(problems)
        return _refused([*first, *_told(problems, hints)], findings, count, missing)
    causes = _causes(problems, links)
    good = tuple(output for output in outputs if output not in causes)
    told = {id(finding): problem for finding, problem in zip(problems, _told(problems, hints), strict=False)}
    dropped = [output for output in outputs if output in causes]
    return GraphReport(
        outputs=good,
        needed=graph.upstream(*good),
        problems=tuple(told.values()),
        problem_count=len(problems),
        dropped={
            output: (told.get(id(causes[output])) or causes[output].tell()) if at < MAX_PROBLEMS else None
            for at, output in enumerate(dropped)
        },
        doubts=_doubts(findings, hints),
        notes=(*_notes(findings, hints), *_idle(graph, reachable)),
        missing=missing,
    )


def _told(findings: Sequence[Finding], hints: Hints) -> tuple[GraphProblem, ...]:
    return tuple([finding.tell(hints) for finding in findings[:MAX_PROBLEMS]])


def _doubts(findings: Sequence[Finding], hints: Hints) -> tuple[GraphProblem, ...]:
    return _warned([each for each in findings if not each.certain and not each.note], "doubts", hints)


def _notes(findings: Sequence[Finding], hints: Hints) -> tuple[GraphProblem, ...]:
    return _warned([each for each in findings if each.note], "warnings", hints)


def _warned(findings: Sequence[Finding], kind: str, hints: Hints) -> tuple[GraphProblem, ...]:
    told = tuple([finding.tell(hints) for finding in findings[:MAX_WARNED]])
    more = len(findings) - len(told)
    if not more:
        return told
    counted = GraphProblem(kind="more", message=f"And {more} more {kind} about inputs of this workflow.")
    return (*told, counted)


def _idle(graph: Graph, reachable: set[NodeId]) -> Iterator[GraphProblem]:
    """One note about all nodes that feed no output."""
    idle = [node for node in graph.nodes.values() if node.id not in reachable]
    if idle:
        shown = ", ".join(f"{node.id} ({node.class_type})" for node in idle[:_SHOWN_NODES])
        more = f" and {len(idle) - _SHOWN_NODES} more" if len(idle) > _SHOWN_NODES else ""
        yield GraphProblem(
            kind="node_not_used",
            message=f"ComfyUI does not run {shown}{more}: no output node needs that.",
            node_id=idle[0].id,
            class_type=idle[0].class_type,
        )


def _refused(
    problems: Sequence[GraphProblem], beside: Sequence[Finding], count: int, missing: Missing
) -> GraphReport:
    """`beside`: all findings; those that are no problems are said too."""
    return GraphReport(
        outputs=(),
        needed=frozenset(),
        problems=tuple(problems[:MAX_PROBLEMS]),
        problem_count=count,
        doubts=_doubts(beside, Hints()),
        notes=_notes(beside, Hints()),
        missing=missing,
    )


def _stoppers(
    graph: Graph, reachable: set[NodeId], links: Mapping[NodeId, Sequence[NodeId]]
) -> Iterator[Finding]:
    """Find what the engine accepts with a 200 and then hangs on, for everybody, until it is restarted.

    Seen on ComfyUI 0.3.75: a node without `inputs` anywhere in the graph, and a link to a node that does not
    exist in an input that the class does not declare (declared ones are checked and their branch is dropped).
    """
    for node in graph.nodes.values():
        if not node.has_inputs:
            text = "it needs an object `inputs` (it may be empty); ComfyUI stops working without it"
            yield Finding(node=node, kind="invalid_node", text=text)
        elif node.id in reachable:
            for name, link in node.links.items():
                if link.node not in graph.nodes and link.node not in links[node.id]:
                    text = f"it links to node {link.node}, which does not exist; ComfyUI stops working on it"
                    yield Finding(node=node, kind="bad_linked_input", text=text, input_name=name)


def _outputs(graph: Graph, info: ObjectInfo | None) -> tuple[NodeId, ...]:
    """A node of a class that nobody knows counts as an output where no other node uses it."""
    known = {} if info is None else info.classes
    nodes = graph.nodes.values()
    strange = [node.class_type for node in nodes if node.class_type not in known]
    used = {link.node for node in nodes for link in node.links.values()} if strange else set[NodeId]()
    outputs = [
        node.id
        for node in nodes
        if (known[node.class_type].output_node if node.class_type in known else node.id not in used)
    ]
    return tuple(outputs)


def _no_output(graph: Graph, info: ObjectInfo | None) -> GraphProblem:
    if info is None:
        loop = _loops(graph, _links(graph, _declared(graph, None)))
        return next(loop).tell()  # every node is used by another one: there must be a loop
    hints = tuple(name for name in ("SaveImage", "PreviewImage") if name in info.classes)
    hint = (
        f" Add one, such as {' or '.join(hints)}, or switch on one that is muted or bypassed."
        if hints
        else ""
    )
    return GraphProblem(
        kind="prompt_no_outputs",
        message=f"The workflow has no output node, so nothing would run.{hint}",
        suggestions=hints,
    )


def _declared(graph: Graph, info: ObjectInfo | None) -> Mapping[NodeId, Declared]:
    return {node.id: declared_inputs(node, info) for node in graph.nodes.values()}


def _links(graph: Graph, declared: Mapping[NodeId, Declared]) -> Mapping[NodeId, Sequence[NodeId]]:
    return {node.id: followed_links(node, declared[node.id]) for node in graph.nodes.values()}


def _reachable(
    outputs: tuple[NodeId, ...], links: Mapping[NodeId, Sequence[NodeId]]
) -> tuple[set[NodeId], bool]:
    """The outputs and all that they need, and whether one of their links leads to no node."""
    seen: set[NodeId] = set()
    found = set(outputs)
    broken = False
    while found:
        seen |= found
        linked = {target for node in found for target in links[node]}
        found = {node for node in linked if node in links and node not in seen}
        broken = broken or not linked <= links.keys()
    return seen, broken


def _findings(
    graph: Graph,
    info: ObjectInfo | None,
    checked: set[NodeId],
    declared: Mapping[NodeId, Declared],
    links: Mapping[NodeId, Sequence[NodeId]],
) -> list[Finding]:
    hints = Hints()
    found = [
        finding
        for node in graph.nodes.values()
        if node.id in checked
        for finding in check_inputs(node, declared[node.id], graph, info, hints)
    ]
    reached = {node: targets for node, targets in links.items() if node in checked}
    if _has_loop(reached):
        found.extend(_loops(graph, reached))
    return found


def _spare(graph: Graph, info: ObjectInfo | None, checked: set[NodeId]) -> Iterator[Finding]:
    """Doubts about the other nodes. Once the missing classes are there, some may be needed."""
    hints = Hints()
    for node in graph.nodes.values():
        if node.id not in checked:
            for finding in check_inputs(node, declared_inputs(node, info), graph, info, hints):
                yield replace(finding, certain=False)


def _causes(problems: list[Finding], links: Mapping[NodeId, Sequence[NodeId]]) -> Mapping[NodeId, Finding]:
    """Each node that can't run → the first problem among its inputs."""
    users: dict[NodeId, list[NodeId]] = {}
    for node, targets in links.items() if problems else ():
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


def _has_loop(links: Mapping[NodeId, Sequence[NodeId]]) -> bool:
    """Whether some nodes are left when, again and again, those go that no other needs."""
    users = dict.fromkeys(links, 0)
    for targets in links.values():
        for target in targets:
            if target in users:
                users[target] += 1
    free = [node for node, count in users.items() if not count]
    for node in free:  # it grows
        for target in links[node]:
            if target in users:
                users[target] -= 1
                if not users[target]:
                    free.append(target)
    return len(free) < len(links)


def _loops(graph: Graph, links: Mapping[NodeId, Sequence[NodeId]]) -> Iterator[Finding]:
    """One finding per node that a loop comes back to, met by a depth-first walk; iterative, for graphs deeper
    than Python's stack."""
    done: set[NodeId] = set()
    told: set[NodeId] = set()
    for root in links:
        path, places, todo = [root], {root: 0}, [iter(links[root])]
        if root in done:
            continue
        while todo:
            target = next(todo[-1], None)
            if target is None:
                todo.pop()
                done.add(node := path.pop())
                del places[node]
            elif target in places:
                if target not in told:
                    told.add(target)
                    yield _loop(
                        graph, path[places[target] : places[target] + _SHOWN_LOOP], len(path) - places[target]
                    )
            elif target not in done and target in links:
                places[target] = len(path)
                path.append(target)
                todo.append(iter(links[target]))


def _loop(graph: Graph, members: list[NodeId], size: int) -> Finding:
    """`members` are the first of the `size` nodes of the loop."""
    steps = [f"{node} ({graph.nodes[node].class_type})" for node in members]
    shown = steps if size <= _SHOWN_LOOP - 1 else [*steps[: _SHOWN_LOOP - 2], "…"]
    return Finding(
        node=graph.nodes[members[0]],
        kind="dependency_cycle",
        text=f"the links form a cycle: {' needs '.join([*shown, steps[0]])}",
    )
