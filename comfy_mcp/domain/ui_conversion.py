"""From the UI format to the API format, as the editor itself exports it.

Notes go; reroutes and bypassed nodes hand through what they are given; primitives become values; muted nodes
go, with the links to them; subgraphs are opened: node 7 inside the subgraph that is node 3 becomes "3:7".
Tested against exports of the editor (comfyui-frontend-package 1.32.9). Two things are otherwise on purpose:
a muted or bypassed subgraph takes everything inside with it, and inputs that only the editor's own displays
have ("audioUI", "preview") are not sent; no class declares them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from comfy_mcp.domain.errors import ErrorCode, GraphProblem, InvalidGraph
from comfy_mcp.domain.graph import unwrapped
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.ui_format import (
    BYPASSED,
    INPUTS_ID,
    MUTED,
    UiGraph,
    UiInput,
    UiNode,
    UiWorkflow,
    is_ui_format,
    read_workflow,
)
from comfy_mcp.domain.widgets import named_values

MAX_NODES = 20_000
"""Nodes after all subgraphs are opened: ten lines of JSON could ask for a billion."""

MAX_STEPS = 100
"""Steps that a link is followed through reroutes, bypassed nodes and subgraphs, and levels that subgraphs are
opened; more is a loop."""

_NOTES = frozenset({"Note", "MarkdownNote"})
_REROUTE, _PRIMITIVE = "Reroute", "PrimitiveNode"
_GROUP_NODE = ("workflow>", "workflow/")
_DRAWN = re.compile(r"\{[^{}]*\|[^{}]*\}")
_REPLACED = re.compile(r"%(?:date:[^%]+|[^%/\\]+\.[^%/\\]+)%")


@dataclass(frozen=True, slots=True)
class _Value:
    value: object


@dataclass(frozen=True, slots=True)
class _Output:
    node: str
    slot: int


_Source = _Value | _Output | None


@dataclass(frozen=True, slots=True)
class _Scope:
    """A graph where it is used: inside node `instance` of `outer`, or at the top."""

    workflow: UiWorkflow
    graph: UiGraph
    prefix: str = ""
    depth: int = 0
    outer: "tuple[_Scope, UiNode] | None" = None

    def inside(self, node: UiNode) -> "_Scope | None":
        """The subgraph that `node` is, or None for a node of a class."""
        graph = self.workflow.subgraphs.get(node.type)
        if graph is None:
            return None
        return _Scope(self.workflow, graph, f"{self.prefix}{node.id}:", self.depth + 1, (self, node))


def api_format(raw: object, info: ObjectInfo | None) -> tuple[object, tuple[str, ...]]:
    """`raw` in API format, and warnings. What is not in UI format comes back as it is.

    So does a UI format without `info`, because the names of its values are known from the classes only:
    `parse_graph` then refuses it. Raises InvalidGraph (`graph_ui_format`).
    """
    inner = unwrapped(raw) if isinstance(raw, Mapping) else None
    if inner is None or info is None or not is_ui_format(inner):
        return raw, ()
    nodes = _opened(read_workflow(inner), info)
    graph = {key: _api_node(scope, node, info, nodes) for key, (scope, node) in nodes.items()}
    if not graph:
        _refuse(
            "This workflow has nothing to run: it has no nodes, or only notes and muted or bypassed nodes."
        )
    return graph, tuple(_warnings(graph, info))


def _opened(workflow: UiWorkflow, info: ObjectInfo) -> dict[str, tuple[_Scope, UiNode]]:
    nodes: dict[str, tuple[_Scope, UiNode]] = {}
    for scope, node in _running(_Scope(workflow, workflow.top), info):
        if len(nodes) >= MAX_NODES:
            _refuse(f"With its subgraphs expanded, this workflow has more than {MAX_NODES} nodes.")
        nodes[f"{scope.prefix}{node.id}"] = scope, node
    return nodes


def _running(scope: _Scope, info: ObjectInfo) -> Iterator[tuple[_Scope, UiNode]]:
    """The nodes that an engine has to run. An unknown class without links is left out: many
    custom nodes live in the editor only."""
    if scope.depth > MAX_STEPS:
        _refuse("A subgraph of this workflow contains itself.")
    for node in scope.graph.nodes.values():
        if node.mode in {MUTED, BYPASSED} or node.type in _NOTES or node.type in {_REROUTE, _PRIMITIVE}:
            continue
        inside = scope.inside(node)
        if inside is not None:
            yield from _running(inside, info)
        elif node.type in info.classes or node.id in scope.graph.linked:
            if node.type.startswith(_GROUP_NODE):
                _refuse(
                    f"Node {scope.prefix}{node.id} is a group node ({node.type}), which is not supported."
                )
            yield scope, node


def _api_node(scope: _Scope, node: UiNode, info: ObjectInfo, nodes: Mapping[str, object]) -> dict[str, Any]:
    known = info.classes.get(node.type)
    inputs = named_values(known.widgets, node.values) if known else {}
    for each in node.inputs:
        match _source(scope, each, MAX_STEPS):
            case _Value(value):
                inputs[each.name] = value
            case _Output(origin, slot) if origin in nodes:
                inputs[each.name] = [origin, slot]
            case _:  # from nowhere, or from a note: the control keeps its value
                pass
    title = node.title or (known.title if known else None) or node.type
    return {"inputs": inputs, "class_type": node.type, "_meta": {"title": title}}


def _source(scope: _Scope, given: UiInput, steps: int) -> _Source:
    """Where an input gets its value from in the end; None: from nowhere."""
    link = None if given.link is None else scope.graph.links.get(given.link)
    return None if link is None else _origin(scope, link.origin, link.origin_slot, steps - 1)


def _origin(scope: _Scope, origin: str, slot: int, steps: int) -> _Source:
    if steps <= 0:
        return None
    if origin == INPUTS_ID:
        return _outside(scope, slot, steps)
    node = scope.graph.nodes.get(origin)
    if node is None or node.mode == MUTED:
        return None
    if node.mode == BYPASSED or node.type == _REROUTE:
        return _handed_through(scope, node, slot, steps)
    if node.type == _PRIMITIVE:
        return _Value(node.values[0]) if isinstance(node.values, list) and node.values else None
    inside = scope.inside(node)
    if inside is None:
        return _Output(f"{scope.prefix}{node.id}", slot)
    result = inside.graph.results.get(slot)
    return None if result is None else _origin(inside, result.origin, result.origin_slot, steps - 1)


def _outside(scope: _Scope, slot: int, steps: int) -> _Source:
    """What the subgraph's own input `slot` is given where it is used: a link, else the control it shows."""
    if scope.outer is None or not 0 <= slot < len(scope.graph.input_names):
        return None
    (outer, instance), name = scope.outer, scope.graph.input_names[slot]
    for each in instance.inputs:
        if each.name == name and each.link is not None:
            return _source(outer, each, steps)
    shown = {label: at for at, (inside, label) in enumerate(instance.promoted) if inside == _OWN_INPUT}
    at, values = shown.get(name), instance.values
    return _Value(values[at]) if at is not None and isinstance(values, list) and at < len(values) else None


_OWN_INPUT = "-1"
"""In the list of a subgraph's controls: the control of an input of its own, not of a node inside."""


def _handed_through(scope: _Scope, node: UiNode, slot: int, steps: int) -> _Source:
    """The input in the same place if its type fits, else the first that fits."""
    wanted = node.output_types[slot] if 0 <= slot < len(node.output_types) else "*"
    same_place = node.inputs[slot : slot + 1] if slot >= 0 else ()
    for each in (*same_place, *node.inputs):
        if node.type == _REROUTE or _fits(each.type, wanted):
            return _source(scope, each, steps)
    return None


def _fits(one: str, other: str) -> bool:
    return "*" in (one, other) or bool({*one.lower().split(",")} & {*other.lower().split(",")})


def _warnings(graph: Mapping[str, Any], info: ObjectInfo) -> Iterator[str]:
    """Texts that the editor would have replaced when it queues."""
    for key, node in graph.items():
        known = info.classes.get(node["class_type"])
        drawn = {widget.name for widget in known.widgets if widget.drawn} if known else set()
        for name, value in node["inputs"].items():
            pattern = _DRAWN if name in drawn else _REPLACED if name == "filename_prefix" else None
            found = pattern.search(value) if pattern and isinstance(value, str) else None
            if found:
                place = f"Node {key} ({node['class_type']}), input {name!r}"
                text = found.group()[:80]
                yield f"{place}: {text!r} is sent unchanged; ComfyUI's editor would replace it with a value."


def _refuse(message: str) -> NoReturn:
    raise InvalidGraph(
        message,
        next_step="In ComfyUI choose Workflow > Export (API) and submit that file.",
        problems=(GraphProblem(kind="graph_ui_format", message=message),),
        code=ErrorCode.GRAPH_UI_FORMAT,
    )
