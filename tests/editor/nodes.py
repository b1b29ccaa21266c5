"""Nodes, links and subgraphs as the editor saves them, for workflows of tests."""

from typing import Any

Node = dict[str, Any]
BYPASSED, MUTED = 4, 2


def node(number: int, kind: str, *values: Any, **more: Any) -> Node:
    base = {"pos": [0, 60 * number], "size": [200, 100], "flags": {}, "order": number, "mode": 0}
    saved = {"widgets_values": list(values)} if values else {}
    return {
        "id": number,
        "type": kind,
        "inputs": [],
        "outputs": [],
        "properties": {},
        **base,
        **saved,
        **more,
    }


def socket(name: str, kind: str, link: int | None = None) -> dict[str, Any]:
    return {"name": name, "type": kind, "link": link}


def control(name: str, kind: str, link: int | None = None) -> dict[str, Any]:
    return {"name": name, "type": kind, "link": link, "widget": {"name": name}}


def output(kind: str, *links: int) -> dict[str, Any]:
    return {"name": kind, "type": kind, "links": list(links)}


def image(number: int, *links: int, width: int = 8, **more: Any) -> Node:
    return node(number, "EmptyImage", width, 9, 1, 0, outputs=[output("IMAGE", *links)], **more)


def save(number: int, link: int) -> Node:
    return node(number, "SaveImage", "x", inputs=[socket("images", "IMAGE", link)])


def workflow(nodes: list[Node], links: Any = (), subgraphs: Any = ()) -> dict[str, Any]:
    file: dict[str, Any] = {"last_node_id": 100, "last_link_id": 100, "nodes": nodes, "links": list(links)}
    file |= {"groups": [], "config": {}, "extra": {}, "version": 0.4}
    return file | ({"definitions": {"subgraphs": list(subgraphs)}} if subgraphs else {})


def subgraph(
    name: str, nodes: list[Node], inputs: Any, links: Any, result: tuple[int, str]
) -> dict[str, Any]:
    """`inputs`: (name, type, link numbers); `links`: (number, origin, slot, target, slot, type)."""
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    state = {"lastGroupId": 0, "lastNodeId": 50, "lastLinkId": 50, "lastRerouteId": 0}
    return {
        "id": name,
        "name": name,
        "version": 1,
        "revision": 0,
        "config": {},
        "state": state,
        "extra": {},
        "inputNode": {"id": -10, "bounding": [0, 0, 100, 100]},
        "outputNode": {"id": -20, "bounding": [500, 0, 100, 100]},
        "inputs": [
            {"id": f"{name}-{key}", "name": key, "type": kind, "linkIds": ids} for key, kind, ids in inputs
        ],
        "outputs": [{"id": f"{name}-out", "name": result[1], "type": result[1], "linkIds": [result[0]]}],
        "widgets": [],
        "nodes": nodes,
        "groups": [],
        "links": [dict(zip(ends, link, strict=True)) for link in links],
    }
