"""Pure: the files and texts in what a node says it made (`executed.output`, `history.outputs`)."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from comfy_mcp.domain.catalog import OutputFile, OutputKind, kind_of_file
from comfy_mcp.domain.ids import NodeId

MAX_TEXT_CHARS = 2**20

MAX_OUTPUTS = 10_000
"""Of one node, and of one prompt. The rest stays in the engine's folder and is not recorded."""


MAX_PATH_CHARS = 4_096
"""No system opens a longer one."""


def outputs_of_node(node: NodeId, output: object) -> tuple[OutputFile, ...]:
    """Every dict with a `filename` under any key, every 3D file whose path is under `result`, and every text
    under one of TEXT_KEYS, in the engine's order.

    The key says little (`images` also holds videos; custom nodes invent keys), so the kind is the suffix's.
    A file named twice is listed once. Texts are cut at MAX_TEXT_CHARS.
    """
    if not isinstance(output, Mapping):
        return ()
    animated = _flags(output.get("animated"))
    found: dict[tuple[object, ...], OutputFile] = {}
    for key, value in output.items():
        if key in TEXT_KEYS:
            for position, text in enumerate(_texts(value)):
                found[key, position] = _text_output(node, text)
        for position, entry in enumerate(_items(value)):
            if key == "result" and isinstance(entry, str):
                entry = _file_of_path(entry)
            file = _file_output(node, entry, animated=_flag(animated, position) and key == "images")
            if file is not None:
                found.setdefault((file.filename, file.subfolder, file.folder_type), file)
    return tuple(found.values())


TEXT_KEYS = frozenset({"text", "string", "tags", "value"})


def _texts(value: object) -> list[str]:
    """One text for each item. Of a node that gives a string where a list belongs ComfyUI sends a list of its
    letters: they become one text again. Numbers and lists are written as JSON."""
    items = _items(value)
    if len(items) > 1 and all(isinstance(item, str) and len(item) == 1 for item in items):
        return ["".join(items)]
    return [text for item in items if (text := _text(item)) is not None]


def _text(item: object) -> str | None:
    match item:
        case str():
            return item
        case bool() | int() | float() | list():
            try:
                return json.dumps(item, ensure_ascii=False)
            except RecursionError:
                return None
        case _:  # a file, or nothing
            return None


_ANNOTATED = re.compile(r"(?P<path>.*?)(?: \[(?P<folder>output|input|temp)\])?", re.DOTALL)


def _file_of_path(path: str) -> Mapping[str, str] | None:
    """`mesh/a_00001_.glb [temp]` as the dict that other nodes give; None for what names no 3D file."""
    found = _ANNOTATED.fullmatch(path)
    assert found is not None
    subfolder, _, filename = found["path"].replace("\\", "/").rpartition("/")
    if kind_of_file(filename) is not OutputKind.MODEL3D:
        return None
    return {"filename": filename, "subfolder": subfolder, "type": found["folder"] or "output"}


def outputs_of_prompt(outputs: object, meta: object = None) -> tuple[OutputFile, ...]:
    """From a history entry's `outputs`: `{node: {key: […]}}`.

    `meta` names the node of the submitted graph for one that another expanded into at run time, as
    `executed` does: `{node: {display_node}}`.
    """
    return tuple(islice(_of_prompt(outputs, meta if isinstance(meta, Mapping) else {}), MAX_OUTPUTS))


def _of_prompt(outputs: object, meta: Mapping[Any, Any]) -> Iterator[OutputFile]:
    if isinstance(outputs, Mapping):
        for node, output in outputs.items():
            about = meta.get(node)
            shown = about.get("display_node") if isinstance(about, Mapping) else None
            yield from outputs_of_node(NodeId(str(shown or node)), output)


def _items(value: object) -> list[Any]:
    return value[:MAX_OUTPUTS] if isinstance(value, list) else [value]


def _flags(value: object) -> list[bool]:
    return [item is True for item in _items(value)]


def _flag(flags: list[bool], position: int) -> bool:
    """`animated: [true]` speaks for all images of the node; a longer list for each."""
    return flags[min(position, len(flags) - 1)] if flags else False


def _file_output(node: NodeId, entry: object, *, animated: bool) -> OutputFile | None:
    if not isinstance(entry, Mapping):
        return None
    filename = entry.get("filename")
    if not isinstance(filename, str) or not filename:
        return None
    subfolder, folder_type = entry.get("subfolder"), entry.get("type")
    subfolder = subfolder if isinstance(subfolder, str) else ""
    folder_type = folder_type if isinstance(folder_type, str) and folder_type else "output"
    if len(filename) + len(subfolder) + len(folder_type) > MAX_PATH_CHARS:
        return None
    return OutputFile(
        kind=kind_of_file(filename),
        filename=filename,
        subfolder=subfolder,
        folder_type=folder_type,
        node=node,
        animated=animated,
    )


def _text_output(node: NodeId, text: str) -> OutputFile:
    cut = text if len(text) <= MAX_TEXT_CHARS else f"{text[: MAX_TEXT_CHARS - 1]}…"
    return OutputFile(kind=OutputKind.TEXT, filename="", node=node, text=cut)
