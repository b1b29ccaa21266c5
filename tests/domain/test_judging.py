"""What can't be converted, and all else that is wrong with the same file, in one error."""

from typing import Any

import pytest

from comfy_mcp.domain.errors import ErrorCode, InvalidGraph
from comfy_mcp.domain.judging import judge
from comfy_mcp.domain.object_info import ObjectInfo
from tests.domain.judged_graphs import EXCERPT
from tests.domain.ui_files import save

UNREAD = {"input": {"required": {"u": ["COMFY_FUTURE_V3", {}], "n": ["INT", {}]}}, "output": ["IMAGE"]}
INFO = ObjectInfo.parse({**EXCERPT, "Future": UNREAD})


def linked(number: int, kind: str, name: str, link: int, *values: Any, **more: Any) -> dict[str, Any]:
    inputs = [{"name": name, "type": "IMAGE", "link": link}]
    return {"id": number, "type": kind, "inputs": inputs, "widgets_values": list(values), **more}


def future(number: int) -> dict[str, Any]:
    """Of its three values nobody knows whose they are."""
    return {"id": number, "type": "Future", "widgets_values": [1, 2, 3]}


def refused(*nodes: dict[str, Any], links: list[Any], **more: Any) -> InvalidGraph:
    with pytest.raises(InvalidGraph) as caught:
        judge({"nodes": list(nodes), "links": links, **more}, INFO)
    assert caught.value.code is ErrorCode.GRAPH_UI_FORMAT
    assert "Export (API)" in caught.value.next_step
    return caught.value


def test_all_that_cannot_be_converted_and_all_that_is_wrong_elsewhere_come_in_one_answer() -> None:
    error = refused(
        future(1),
        save(2, 1),
        future(3),
        save(4, 2),
        {"id": 5, "type": "CheckpointLoaderSimple", "widgets_values": ["other.ckpt"]},
        linked(6, "VAEDecode", "vae", 3),
        save(7, 4),
        linked(8, "Nope", "x", 5),
        linked(9, "EmptyImage", "width", 99, 8, 8, 1, -7),
        save(10, 6),
        links=[
            [1, 1, 0, 2, 0, "IMAGE"],
            [2, 3, 0, 4, 0, "IMAGE"],
            [3, 5, 2, 6, 0, "VAE"],
            [4, 6, 0, 7, 0, "IMAGE"],
            [5, 9, 0, 8, 0, "IMAGE"],
            [6, 9, 0, 10, 0, "IMAGE"],
        ],
    )
    assert [(each.node_id, each.input_name) for each in error.problems] == [
        ("1", "u"),
        ("3", "u"),
        ("6", "samples"),
        ("9", "color"),
    ]
    assert all(each.message in error.message for each in error.problems)
    assert (
        "This engine lacks 1 class: Nope (node 8); and does not list 1 model file: other.ckpt"
        in error.message
    )
    details: Any = error.details
    assert [len(details[kind]) for kind in ("missingClasses", "missingModels")] == [1, 1]
    assert any("its link leads nowhere" in text for text in error.warnings)
    assert "Install the packs" in error.next_step


def test_a_group_node_that_cannot_be_opened_is_no_missing_class() -> None:
    group = {"id": 5, "type": "workflow>G", "outputs": [{"name": "IMAGE", "type": "IMAGE"}]}
    error = refused(group, save(2, 1), links=[[1, 5, 0, 2, 0, "IMAGE"]])
    assert error.message == (
        "Node 5 (workflow>G): it is a group node and the file has no definition of it in extra.groupNodes."
    )
    assert error.details == {}
    (problem,) = error.problems
    assert problem.node_id == "5"


def test_beyond_what_can_be_read_faults_are_counted() -> None:
    nodes = [each for at in range(30) for each in (future(2 * at + 1), save(2 * at + 2, at))]
    error = refused(*nodes, links=[[at, 2 * at + 1, 0, 2 * at + 2, 0, "IMAGE"] for at in range(30)])
    assert len(error.problems) == 20
    told = error.message.count("Node ")
    assert error.message.endswith(f" And {30 - told} more faults.")


def reroute(number: int, link: int) -> dict[str, Any]:
    return linked(number, "Reroute", "", link, outputs=[{"type": "*"}])


def test_rings_and_values_without_a_place_and_all_else_come_in_one_answer() -> None:
    """A ring of links, a subgraph in itself, a group node's values, a wrong value of a node with a ring."""
    subgraph = "6f1c2b5e-0000-4000-8000-00000000000{}"
    inside = [{"id": 7, "type": subgraph.format(1), "outputs": [{"type": "IMAGE"}]}]
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    out = [dict(zip(ends, (1, 7, 0, -20, 0), strict=True))]
    error = refused(
        reroute(1, 2),
        reroute(2, 1),
        linked(3, "SaveImage", "images", 3, 5),
        linked(4, "VAEDecode", "samples", 4),
        save(5, 5),
        {"id": 6, "type": subgraph.format(1), "outputs": [{"type": "IMAGE"}]},
        save(8, 6),
        {"id": 9, "type": "workflow>G", "widgets_values": [1, 2, 3], "outputs": [{"type": "IMAGE"}]},
        save(10, 7),
        links=[
            [1, 1, 0, 2, 0, "*"],
            [2, 2, 0, 1, 0, "*"],
            [3, 1, 0, 3, 0, "*"],
            [4, 2, 0, 4, 0, "*"],
            [5, 4, 0, 5, 0, "IMAGE"],
            [6, 6, 0, 8, 0, "IMAGE"],
            [7, 9, 0, 10, 0, "IMAGE"],
        ],
        definitions={"subgraphs": [{"id": subgraph.format(1), "nodes": inside, "links": out}]},
        extra={"groupNodes": {"G": {"nodes": [future(0) | {"outputs": [{"type": "IMAGE"}]}]}}},
    )
    assert {(each.node_id, each.input_name) for each in error.problems} == {
        ("9:0", "u"),
        ("6", None),
        ("3", "images"),
        ("4", "samples"),
        ("4", "vae"),
    }
    assert "missingClasses" not in error.details


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        ({}, "and the file has no definition of it in extra.groupNodes"),
        ({"G": {}}, "and its definition in extra.groupNodes has no nodes"),
        ({"G": {"nodes": [{"type": "PrimitiveNode"}]}}, "with a primitive inside"),
        ({"G": {"nodes": [{"type": "workflow/G"}]}}, "that contains itself"),
        ({"G": {"nodes": [{"type": "workflow>H"}]}, "H": {"nodes": [{"type": "workflow>G"}]}}, "that holds"),
    ],
    ids=["none", "empty", "primitive", "itself", "in a ring"],
)
def test_why_a_group_node_stays_closed_is_said(groups: Any, why: str) -> None:
    group = {"id": 5, "type": "workflow>G", "outputs": [{"name": "IMAGE", "type": "IMAGE"}]}
    error = refused(group, save(2, 1), links=[[1, 5, 0, 2, 0, "IMAGE"]], extra={"groupNodes": groups})
    assert f"it is a group node {why}" in error.message
