"""Files of clients that are kept apart on an engine: a folder for each, and no way into another's.

An engine has one input folder and one output folder for everybody. What a node builds from pieces, and custom
nodes that take any path of the machine, only the engine could bound.
"""

import hashlib
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from comfy_mcp.domain.ids import ClientId, NodeId

FOLDER = "bridge-clients"
"""Below the engine's input folder; a name that nothing else has."""

_OUTPUTS = ("[output]", "[temp]")


def folder_of(client: ClientId) -> str:
    """The client's folder, below the engine's input folder: a name may have any characters, a path not."""
    return f"{FOLDER}/{hashlib.sha256(client.encode('utf-8', 'replace')).hexdigest()[:32]}"


def foreign_files(
    inputs: Mapping[NodeId, Mapping[str, Any]], client: ClientId
) -> Iterator[tuple[NodeId, str]]:
    """(node, input) of each text that names a file which is not the client's: outputs, and others' folders.

    `inputs` are those of a graph's nodes. Linear in the bytes.
    """
    own = folder_of(client)
    for node, named in inputs.items():
        for name, value in named.items():
            if any(_is_foreign(text, own) for text in _texts(value)):
                yield node, name


def _is_foreign(text: str, own: str) -> bool:
    """ComfyUI reads `x.png [output]` from its outputs, and everything else below its inputs."""
    plain = text.strip().casefold()
    if plain.endswith(_OUTPUTS):
        return True
    if FOLDER not in plain:
        return False
    path = posixpath.normpath(plain.replace("\\", "/"))
    return path.count(FOLDER) != path.count(f"{own}/")


def _texts(value: Any) -> Iterator[str]:
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            todo += item.values()
        elif isinstance(item, list | tuple):
            todo += item
