"""The nodes that the embedded engine can run: none of them needs a model."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from comfy_mcp.embedded.nodes import composite, demo, image, output, primitive, transform
from comfy_mcp.embedded.nodes.base import NodeType

NODE_TYPES: Mapping[str, NodeType] = MappingProxyType(
    {
        node.name: node
        for module in (image, transform, composite, output, primitive, demo)
        for node in module.NODES
    }
)

__all__ = ["NODE_TYPES", "NodeType"]
