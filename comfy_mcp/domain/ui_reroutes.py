"""Reroutes of packs that nobody here knows: nodes of the editor's own that hand on what they are given.

The engine has no class for them, and the editor sends what is linked to them. An unknown class with one input
and one output may as well be a filter, and a picture without it is another picture. So a node counts as a
reroute only where nothing is lost: both ends are of one type, it has no saved values, and either its type
says "reroute" or its input has no name. A class of an engine has a name for each input, because Python
passes them by name; only a node that lives in the editor can do without.
"""

from dataclasses import replace

from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.ui_format import UiGraph, UiNode, UiWorkflow
from comfy_mcp.domain.ui_links import REROUTE, fits, is_editor_only

_NO_NAME = frozenset({"", "*"})


def with_reroutes(workflow: UiWorkflow, info: ObjectInfo) -> UiWorkflow:
    """`workflow` with the editor's own reroute in the place of each, and a note about it."""
    return UiWorkflow(
        top=_read(workflow.top, workflow, info),
        subgraphs={name: _read(graph, workflow, info) for name, graph in workflow.subgraphs.items()},
    )


def _read(graph: UiGraph, workflow: UiWorkflow, info: ObjectInfo) -> UiGraph:
    found = {
        key: _as_reroute(node, info.source)
        for key, node in graph.nodes.items()
        if node.type not in info.classes and node.type not in workflow.subgraphs and hands_on(node)
    }
    return replace(graph, nodes={**graph.nodes, **found}) if found else graph


def hands_on(node: UiNode) -> bool:
    """Whether `node`, of a class that no engine has, gives what it is given."""
    if is_editor_only(node.type) or len(node.inputs) != 1 or len(node.output_types) != 1:
        return False
    (given,) = node.inputs
    unnamed = given.name.strip() in _NO_NAME or "reroute" in node.type.lower()
    return unnamed and not given.widget and not _has_values(node) and fits(given.type, node.output_types[0])


def _has_values(node: UiNode) -> bool:
    listed = node.values if isinstance(node.values, list) else [node.values]
    return bool(node.named) or any(value not in (None, "", {}) for value in listed)


def _as_reroute(node: UiNode, source: str) -> UiNode:
    text = (
        f"{source} has no class {node.type!r}; with one input and one output it counts as a reroute, "
        "and what is linked to it is handed on"
    )
    return replace(node, type=REROUTE, odd=(*node.odd, (None, text)))
