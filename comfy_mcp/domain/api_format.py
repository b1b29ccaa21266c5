"""A workflow in API format, whatever format it came in.

What converts the UI format is 13 modules of its own. They are imported with the first workflow in that
format: a process that gets none spares 0.6 MB.
"""

from collections.abc import Callable, Mapping
from typing import Any

from comfy_mcp.domain.errors import MAX_WARNINGS, GraphProblem
from comfy_mcp.domain.graph import OBJECT, unwrapped
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.shown import counted
from comfy_mcp.domain.spelling import as_listed
from comfy_mcp.domain.ui_format import is_ui_format
from comfy_mcp.domain.ui_scopes import Budget, Controls
from comfy_mcp.domain.ui_texts import Moment


def api_format(
    raw: object,
    info: ObjectInfo | None,
    budget: Budget | None = None,
    moment: Callable[[], Moment | None] = lambda: None,
    controls: Controls | None = None,
    refused: list[GraphProblem] | None = None,
) -> tuple[object, tuple[str, ...]]:
    """`raw` in API format, and warnings. What is not in UI format comes back as it is, but for names of files
    that the engine spells with another slash.

    So does a UI format without `info`, because the names of its values are known from the classes only:
    `parse_graph` then refuses it. `controls` is filled, and `refused` with what can't be converted: then the
    graph comes back to be checked all the same. Without that list it is raised. `moment` is asked for only
    where it is needed; without one nothing is drawn and no date is filled in; warnings say where.

    Raises InvalidGraph (`graph_ui_format`), and what `budget` raises.
    """
    inner = unwrapped(raw) if isinstance(raw, OBJECT) else None
    if inner is None or info is None:
        return raw, ()
    if not is_ui_format(inner):
        titled = _titled(inner, info)
        spelled, notes = as_listed(titled, info)
        return (spelled, counted(notes, MAX_WARNINGS)) if notes or titled is not inner else (raw, ())
    from comfy_mcp.domain.ui_conversion import converted  # see above

    found = {} if controls is None else controls
    graph, warnings = converted(inner, info, budget or Budget(), moment(), found, refused)
    spelled, notes = as_listed(graph, info)
    return spelled, counted([*notes, *warnings], MAX_WARNINGS)


def _titled(graph: Mapping[str, Any], info: ObjectInfo) -> Mapping[str, Any]:
    """With a title for each node whose class the engine replaces: without one it answers a bare 500."""
    if not info.replaced:
        return graph
    bare = {
        key: {**node, "_meta": {"title": node["class_type"]}}
        for key, node in graph.items()
        if isinstance(node, OBJECT)
        and isinstance(node.get("class_type"), str)
        and node["class_type"] in info.replaced
        and not isinstance(node.get("_meta"), Mapping)
    }
    return {**graph, **bare} if bare else graph
