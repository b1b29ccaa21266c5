"""Which nodes of a graph cost credits."""

from typing import Any

from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.partner_nodes import PartnerNode, named, partner_nodes

PRICE = {"expr": '{"type": "usd", "usd": 0.05}'}
INFO = ObjectInfo.parse(
    {
        "Paid": {"input": {}, "output": ["IMAGE"], "api_node": True, "price_badge": PRICE},
        "Unpriced": {"input": {}, "output": ["IMAGE"], "api_node": True},
        "Free": {"input": {}, "output": ["IMAGE"], "api_node": False},
        "Broken": 3,
    }
)


def graph(*classes: str) -> Any:
    return parse_graph(
        {str(n): {"class_type": name, "inputs": {}} for n, name in enumerate(classes, start=1)}
    )


def test_only_partner_nodes_that_would_run_are_named() -> None:
    some = graph("Paid", "Free", "Unpriced", "Paid")
    found = partner_nodes(some, {"1", "2", "3"}, INFO)  # type: ignore[arg-type]
    assert found == (
        PartnerNode(node="1", class_type="Paid", price="$0.05"),  # type: ignore[arg-type]
        PartnerNode(node="3", class_type="Unpriced", price=None),  # type: ignore[arg-type]
    )
    assert named(found, prices=True) == "node 1 (Paid, $0.05), node 3 (Unpriced)"
    assert named(found, prices=False) == "node 1 (Paid), node 3 (Unpriced)"


def test_without_a_node_list_or_without_partner_classes_there_are_none() -> None:
    some = graph("Paid")
    assert partner_nodes(some, set(some.nodes), None) == ()
    assert partner_nodes(some, set(some.nodes), ObjectInfo.parse({"Paid": {"input": {}}})) == ()


def test_of_many_the_first_are_named_and_the_others_counted() -> None:
    some = graph(*["Unpriced"] * 12)
    text = named(partner_nodes(some, set(some.nodes), INFO), prices=True)
    assert text.endswith("node 10 (Unpriced) and 2 more")
