"""Names of model files in folders, spelled as the engine lists them.

A workflow that was made on Windows names a file with a backslash behind its folder; an engine on Linux lists
it with a slash and refuses the other spelling.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from comfy_mcp.domain.object_info import ObjectInfo


def as_listed(graph: Mapping[str, Any], info: ObjectInfo) -> tuple[Mapping[str, Any], list[str]]:
    """`graph` (API format) in the engine's spelling, with a sentence for each change; itself without any."""
    changed: dict[str, Any] = {}
    notes = []
    for key, node in graph.items():
        for name, value, listed in _misspelled(node, info):
            new = changed.setdefault(key, {**node, "inputs": dict(node["inputs"])})
            new["inputs"][name] = listed
            place = f"Node {key} ({node['class_type']}), input {name!r}"
            notes.append(f"{place}: {value!r:.200} is sent as {info.source} lists it, {listed!r}.")
    return ({**graph, **changed}, notes) if changed else (graph, notes)


def _misspelled(node: object, info: ObjectInfo) -> Iterator[tuple[str, str, str]]:
    """(input, value, the same as it is listed)."""
    if not isinstance(node, Mapping) or not isinstance(inputs := node.get("inputs"), Mapping):
        return
    kind = node.get("class_type")
    known = info.classes.get(kind) if isinstance(kind, str) else None
    specs = {} if known is None else known.inputs
    for name, value in inputs.items():
        if name in specs and isinstance(value, str) and ("/" in value or "\\" in value):
            other = value.replace("\\", "/") if "\\" in value else value.replace("/", "\\")
            if not specs[name].lists(value) and specs[name].lists(other):
                yield name, value, other
