"""Pairs of nodes that hand a value on by its name, without a link: Set and Get nodes of custom packs.

The packs that people use most are known by the types of their nodes (ui_format.py). Others are known by what
all have in common: two types that no engine has, which differ in "set" and "get" only, and whose first value
is the name. Some of those that get have a switch.
"""

from collections.abc import Iterator
from dataclasses import replace

from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.ui_format import UiGraph, UiNode, UiWorkflow, is_getter, is_setter

SETTER, GETTER = "SetNode", "GetNode"

_OFF = frozenset({"false", "off", "\u5173\u95ed", "\u7ed5\u8fc7"})
"""What a switch says where it is off; the last two are "off" and "bypass" in Chinese."""


def with_pairs(workflow: UiWorkflow, info: ObjectInfo) -> UiWorkflow:
    """`workflow` with the types of the best known pack in the place of others, and a note about it."""
    graphs = [workflow.top, *workflow.subgraphs.values()]
    unknown = [node for graph in graphs for node in graph.nodes.values() if _may_be_one(node, workflow, info)]
    pairs = {node.type.lower() for node in unknown if not _is_fed(node)}
    setters = {node.type for node in unknown if _is_fed(node) and _getting(node.type) in pairs}
    if not setters:
        return workflow
    getters = {_getting(kind) for kind in setters}

    def known_as(node: UiNode) -> UiNode:
        """Itself, or with the type of the best known pack."""
        if _may_be_one(node, workflow, info):
            if node.type in setters and _is_fed(node):
                return _named(node, SETTER, "sets", info)
            if node.type.lower() in getters and not _is_fed(node):
                return _named(node, GETTER, "reads", info)
        return node

    def read(graph: UiGraph) -> UiGraph:
        nodes = {key: known_as(node) for key, node in graph.nodes.items()}
        own = {node.first_text or "": key for key, node in reversed(nodes.items()) if node.type == SETTER}
        return replace(graph, nodes=nodes, setters={**own, **graph.setters})

    subgraphs = {name: read(graph) for name, graph in workflow.subgraphs.items()}
    return UiWorkflow(top=read(workflow.top), subgraphs=subgraphs)


def _may_be_one(node: UiNode, workflow: UiWorkflow, info: ObjectInfo) -> bool:
    kind = node.type.lower()
    return (
        ("set" in kind or "get" in kind)
        and bool(node.first_text)
        and node.type not in info.classes
        and node.type not in workflow.subgraphs
        and not is_setter(node.type)
        and not is_getter(node.type)
    )


def _is_fed(node: UiNode) -> bool:
    return any(each.link is not None for each in node.inputs)


def _getting(kind: str) -> str | None:
    """The type, in lower case, of the node that gets what a node of type `kind` sets."""
    return kind.lower().replace("set", "get") if "set" in kind.lower() else None


def _named(node: UiNode, kind: str, does: str, info: ObjectInfo) -> UiNode:
    text = (
        f"{info.source} has no class {node.type!r}; as there is a pair of such nodes, it counts as one that "
        f"{does} {node.first_text!r:.60} by its name"
    )
    return replace(node, type=kind, odd=(*node.odd, (None, text)))


def is_off(value: object) -> bool:
    """Whether a switch with that value is off."""
    return value.strip().lower() in _OFF if isinstance(value, str) else not value


def switches(node: UiNode) -> Iterator[object]:
    """The saved values of a node that gets a value, but for the name: they switch it on and off."""
    listed = node.values if isinstance(node.values, list) else []
    named = False
    for value in listed:
        if value == node.first_text and not named:
            named = True
        elif isinstance(value, str | bool | int):
            yield value
