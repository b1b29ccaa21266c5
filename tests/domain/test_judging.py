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
    assert error.message == "Node 5 (workflow>G): it is a group node that can't be opened."
    assert error.details == {}
    (problem,) = error.problems
    assert problem.node_id == "5"


def test_beyond_what_can_be_read_faults_are_counted() -> None:
    nodes = [each for at in range(30) for each in (future(2 * at + 1), save(2 * at + 2, at))]
    error = refused(*nodes, links=[[at, 2 * at + 1, 0, 2 * at + 2, 0, "IMAGE"] for at in range(30)])
    assert len(error.problems) == 20
    told = error.message.count("Node ")
    assert error.message.endswith(f" And {30 - told} more faults.")
