"""Partner nodes: those of classes that ComfyUI runs on a paid service (`api_node` in GET /object_info)."""

from collections.abc import Collection
from dataclasses import dataclass

from comfy_mcp.domain.graph import Graph
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.object_info import ObjectInfo

MAX_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PartnerNode:
    node: NodeId
    class_type: str
    price: str | None


def partner_nodes(
    graph: Graph, needed: Collection[NodeId], info: ObjectInfo | None
) -> tuple[PartnerNode, ...]:
    """Those of the nodes that would run, in the order of the graph. Without `info` nobody knows: none."""
    if info is None or not info.partner_classes:
        return ()
    return tuple(
        PartnerNode(node=node.id, class_type=node.class_type, price=info.partner_classes[node.class_type])
        for node in graph.nodes.values()
        if node.class_type in info.partner_classes and node.id in needed
    )


def named(nodes: Collection[PartnerNode], *, prices: bool) -> str:
    """`node 3 (FluxProFillNode, $0.05)`, … up to MAX_NAMED."""
    shown = [
        f"node {each.node} ({each.class_type}{f', {each.price}' if prices and each.price else ''})"
        for each in list(nodes)[:MAX_NAMED]
    ]
    return ", ".join(shown) + (f" and {len(nodes) - len(shown)} more" if len(nodes) > len(shown) else "")
