"""Names of model files in folders, spelled as the engine lists them.

A workflow that was made on Windows names a file with a backslash behind its folder; an engine on Linux lists
it with a slash and refuses the other spelling.
"""

from collections.abc import Mapping
from typing import Any

from comfy_mcp.domain.graph import OBJECT
from comfy_mcp.domain.object_info import ObjectInfo


def as_listed(graph: Mapping[str, Any], info: ObjectInfo) -> tuple[Mapping[str, Any], list[str]]:
    """`graph` (API format) in the engine's spelling, with a sentence for each change; itself without any."""
    changed: dict[str, Any] = {}
    notes = []
    in_folders = [
        (key, node, name, value)
        for key, node in graph.items()
        if isinstance(node, OBJECT) and isinstance(inputs := node.get("inputs"), OBJECT)
        for name, value in inputs.items()
        if value.__class__ is str and ("/" in value or "\\" in value)
    ]
    for key, node, name, value in in_folders:
        listed = _listed(node.get("class_type"), name, value, info)
        if listed is not None:
            new = changed.setdefault(key, {**node, "inputs": dict(node["inputs"])})
            new["inputs"][name] = listed
            place = f"Node {key} ({node['class_type']}), input {name!r}"
            notes.append(f"{place}: {value!r:.200} is sent as {info.source} lists it, {listed!r}.")
    return ({**graph, **changed}, notes) if changed else (graph, notes)


def _listed(kind: object, name: str, value: str, info: ObjectInfo) -> str | None:
    """With the other slash, where the engine lists it so and not as it is."""
    known = info.classes.get(kind) if isinstance(kind, str) else None
    spec = None if known is None else known.inputs.get(name)
    if spec is None or spec.lists(value):
        return None
    other = value.replace("\\", "/") if "\\" in value else value.replace("/", "\\")
    return other if spec.lists(other) else None
