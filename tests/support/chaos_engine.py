"""The embedded engine as another version of itself, and a process that permissions hold for."""

import ctypes
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

_CAPABILITY_VERSION_3 = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2
"""linux/capability.h: what lets root pass over the modes of files."""


def become(version: str, *, without: Sequence[str] = (), most: Mapping[str, Mapping[str, int]]) -> None:
    """`without`: classes of nodes that are gone. `most`: class → input → a new upper bound."""
    from comfy_mcp.embedded import engine, routes_info
    from comfy_mcp.embedded.nodes import NODE_TYPES

    nodes = {name: node for name, node in NODE_TYPES.items() if name not in without}
    for name, bounds in most.items():
        if name in nodes:
            nodes[name] = _bounded(nodes[name], bounds)
    names: Any = engine
    names.NODE_TYPES = nodes
    texts: Any = routes_info
    texts.ENGINE_VERSION = version


def obey_modes() -> None:
    """Linux: root gives up what sets it above the permissions of files. Others have to obey them anyway."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(struct.calcsize("6I"))
    if libc.capget(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    effective, *others = struct.unpack("6I", data.raw)
    effective &= ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    if libc.capset(header, struct.pack("6I", effective, *others)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _bounded(node: Any, bounds: Mapping[str, int]) -> Any:
    def inputs(directories: Any) -> Any:
        given = node.inputs(directories)
        required = {
            name: replace(spec, options={**spec.options, "max": bounds[name]}) if name in bounds else spec
            for name, spec in given.required.items()
        }
        return replace(given, required=required)

    return replace(node, inputs=inputs)
