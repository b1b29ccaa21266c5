"""What earlier nodes made, kept for the next prompt and found by what went into it.

Like ComfyUI's default cache it lasts for one prompt: what the next one does not use is dropped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy_mcp.embedded.directories import Directories, OutsideDirectory
from comfy_mcp.embedded.nodes import NodeType
from comfy_mcp.embedded.nodes.base import NodeResult
from comfy_mcp.embedded.nodes.frames import Frames

Json = dict[str, Any]


def signatures(
    prompt: Mapping[str, Any], nodes: Mapping[str, NodeType], directories: Directories
) -> dict[str, str]:
    """A key per node: its class, its literal inputs, and the keys of the nodes that it is linked to.

    Titles and ids do not count, so two equal nodes share one result. A node whose link leads nowhere, or
    round in a circle, has no key: it does not belong to a valid output and is never run.
    """
    keys: dict[str, str] = {}
    for node_id in dependency_order(prompt):
        key = _key(prompt[node_id], keys, nodes, directories)
        if key is not None:
            keys[node_id] = key
    return keys


def dependency_order(prompt: Mapping[str, Any]) -> list[str]:
    """Every node after those that it is linked to, circles cut anywhere. No recursion: graphs are deep."""
    order: dict[str, None] = {}
    entered: set[str] = set()
    for root in prompt:
        stack = [root]
        while stack:
            node_id = stack[-1]
            if node_id not in entered:
                entered.add(node_id)
                stack += [source for source in sources(prompt[node_id]) if _unseen(source, prompt, entered)]
            else:
                stack.pop()
                order.setdefault(node_id)
    return list(order)


def sources(node: Any) -> list[str]:
    """The ids that a node's inputs link to, in the order of the inputs; nothing for a malformed node."""
    inputs = node.get("inputs") if isinstance(node, dict) else None
    if not isinstance(inputs, dict):
        return []
    return list(dict.fromkeys(value[0] for value in inputs.values() if is_link(value)))


def is_link(value: Any) -> bool:
    """Is an input's value [node id, slot]?"""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    )


def _unseen(node_id: str, prompt: Mapping[str, Any], entered: set[str]) -> bool:
    return node_id in prompt and node_id not in entered


def _key(
    node: Any, keys: Mapping[str, str], nodes: Mapping[str, NodeType], directories: Directories
) -> str | None:
    node_type = nodes[node["class_type"]]
    values = node.get("inputs")
    if not isinstance(values, dict):
        return None
    parts: list[Any] = [node_type.name]
    for name in sorted(values):
        value = values[name]
        if not is_link(value):
            parts.append([name, "value", value])
        elif value[0] in keys:
            parts.append([name, "link", keys[value[0]], int(value[1])])
        else:
            return None
    if node_type.fingerprint is not None:
        try:
            parts.append(node_type.fingerprint(directories, values))
        except (OSError, OutsideDirectory, KeyError, TypeError):
            return None
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class CachedResult:
    """A result and the id of the node that made it, not always the one that takes it over."""

    result: NodeResult
    made_by: str


class OutputCache:
    """Results by signature, bounded in pixels. Used by the worker thread alone."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._pixels = 0
        self._results: dict[str, CachedResult] = {}

    def keep_only(self, keys: set[str]) -> None:
        self._results = {key: result for key, result in self._results.items() if key in keys}
        self._pixels = sum(map(_pixels, self._results.values()))

    def get(self, key: str) -> CachedResult | None:
        return self._results.get(key)

    def put(self, key: str, result: CachedResult) -> None:
        """Keep a result, unless the bound is reached: then it is made again next time."""
        size = _pixels(result)
        if self._pixels + size <= self._max_pixels:
            self._results[key] = result
            self._pixels += size

    def clear(self) -> None:
        self._results.clear()
        self._pixels = 0


def _pixels(cached: CachedResult) -> int:
    return sum(value.pixels for value in cached.result.values if isinstance(value, Frames))
