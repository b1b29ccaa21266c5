"""Group nodes are opened as the editor opens them. The editor's own exports of six are in tests/editor."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain import ui_groups
from comfy_mcp.domain.api_format import api_format
from comfy_mcp.domain.errors import InvalidGraph
from comfy_mcp.domain.object_info import ObjectInfo
from tests.domain.ui_files import CLASSES, image, save

BATCH = {
    "input": {"required": {"image1": ["IMAGE"], "image2": ["IMAGE"]}},
    "output": ["IMAGE"],
}
SHOWN = {"input": {"required": {"view": ["IMAGECOMPARE", {}], "size": ["INT", {}]}}, "output": []}
INFO = ObjectInfo.parse({**CLASSES, "ImageBatch": BATCH, "Shown": SHOWN})
OUT = {"outputs": [{"name": "IMAGE", "type": "IMAGE"}]}
CASE = Path(__file__).parents[1] / "data" / "field_cases" / "F211-group-node" / "workflow.json"


def inner(kind: str, *values: Any, inputs: Any = (), **more: Any) -> dict[str, Any]:
    return {"type": kind, "widgets_values": list(values), "inputs": list(inputs), **OUT, **more}


def socket(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "IMAGE", "link": None, **more}


def file(group: Any, *values: Any, inputs: Any = (), nodes: Any = (), links: Any = ()) -> dict[str, Any]:
    """A group node `workflow>G` that is node 5, and a SaveImage behind it."""
    user = {"id": 5, "type": "workflow>G", "widgets_values": list(values), "inputs": list(inputs), **OUT}
    return {
        "nodes": [user, save(6, 1), *nodes],
        "links": [[1, 5, 0, 6, 0, "IMAGE"], *links],
        "extra": {"groupNodes": {"G": group}},
    }


def graph_of(raw: dict[str, Any]) -> dict[str, Any]:
    graph, _ = api_format(raw, INFO)
    assert isinstance(graph, dict)
    return {key: node["inputs"] for key, node in graph.items()}


def test_its_values_are_those_of_the_nodes_inside() -> None:
    group = {"nodes": [inner("EmptyImage", 1, 2)], "links": []}
    assert graph_of(file(group, 7, 8))["5:0"] == {"width": 7, "height": 8}
    assert graph_of(file(group, 7, 8))["6"]["images"] == ["5:0", 0]


def test_two_uses_have_their_own_values() -> None:
    raw = file({"nodes": [inner("EmptyImage", 1, 2)]}, 7, 8)
    raw["nodes"] += [{**raw["nodes"][0], "id": 9, "widgets_values": [70]}, save(10, 2)]
    raw["links"].append([2, 9, 0, 10, 0, "IMAGE"])
    graph = graph_of(raw)
    assert (graph["5:0"]["width"], graph["9:0"]["width"]) == (7, 70)
    assert graph["10"]["images"] == ["9:0", 0]


def test_a_control_that_is_a_socket_has_no_place_in_the_values() -> None:
    group = {"nodes": [inner("EmptyImage", 1, 2, inputs=[socket("width", widget={"name": "width"})])]}
    assert graph_of(file(group, 8))["5:0"] == {"width": 1, "height": 8}
    short = {"nodes": [inner("EmptyImage", inputs=[socket("width", widget={"name": "width"})])]}
    assert graph_of(file(short, 8))["5:0"] == {"width": 512, "height": 8}
    assert graph_of(file({"nodes": [inner("Shown", 3)]}, 4))["5:0"]["size"] == 4
    bare = {"nodes": [{"type": "EmptyImage"}, {"type": "Nobody knows"}]}
    assert graph_of(file(bare, 8))["5:0"] == {"width": 8, "height": 512}


def warnings_of(raw: dict[str, Any]) -> tuple[str, ...]:
    return api_format(raw, INFO)[1]


def test_more_and_fewer_values_than_there_are_controls_inside_are_told() -> None:
    group = {"nodes": [inner("EmptyImage", 1, 2)]}
    assert warnings_of(file(group, 7, 8)) == ()
    assert warnings_of(file(group, 7, 8, None, False)) == ()
    told = "Node 5 (workflow>G): nothing inside has an input for saved values: 9."
    assert warnings_of(file(group, 7, 8, 9)) == (told,)
    missing = "Node 5:0 (EmptyImage), input 'height': its group node has no saved value for it."
    assert warnings_of(file(group, 7)) == (missing,)
    off = file(group, 7, 8, 9)
    off["nodes"][0]["mode"] = 4
    assert told not in warnings_of(off)


def test_values_of_a_group_node_by_name_or_neither_by_name_nor_place() -> None:
    raw = file({"nodes": [inner("EmptyImage", 1, 2)]})
    raw["nodes"][0]["widgets_values"] = {"width": 7, "x": 8}
    assert graph_of(raw)["5:0"]["width"] == 7
    assert "Node 5 (workflow>G), input 'x': no control inside" in " ".join(warnings_of(raw))
    raw["nodes"][0]["widgets_values"] = "7"
    assert any("Node 5 (workflow>G): its saved values have no places" in each for each in warnings_of(raw))


def test_an_input_is_found_by_its_name_outside() -> None:
    """Names that come twice begin with the node's title, and a third time have a number."""
    twins = [inner("ImageBatch", inputs=[socket("image1"), socket("image2")]) for _ in range(3)]
    group = {
        "nodes": twins,
        "config": {"2": {"input": {"image2": {"name": "mine"}}}},
        "external": [[2, 0, "IMAGE"], None],
        "links": [[0, 0, 1, 0], [1, 0, 2, 0], "broken"],
    }
    names = ["image1", "image2", "ImageBatch image2", "mine"]
    inputs = [{"name": name, "type": "IMAGE", "link": 10 + at} for at, name in enumerate(names)]
    raw = file(group, inputs=inputs, nodes=[image(20, 1, 1)])
    raw["links"] += [[10 + at, 20, 0, 5, at, "IMAGE"] for at in range(4)]
    graph = graph_of(raw)
    assert graph["5:0"] == {"image1": ["20", 0], "image2": ["20", 0]}
    assert graph["5:1"] == {"image1": ["5:0", 0], "image2": ["20", 0]}
    assert graph["5:2"] == {"image1": ["5:1", 0], "image2": ["20", 0]}
    three = {"nodes": twins, "links": []}
    raw = file(
        three, inputs=[{"name": "ImageBatch 2 image1", "type": "IMAGE", "link": 10}], nodes=[image(20)]
    )
    raw["links"].append([10, 20, 0, 5, 0, "IMAGE"])
    assert graph_of(raw)["5:2"] == {"image1": ["20", 0]}


def test_a_group_in_a_group_is_opened_too() -> None:
    raw = file({"nodes": [inner("workflow>H", 7, 8)]})
    raw["extra"]["groupNodes"]["H"] = {"nodes": [inner("EmptyImage", 1, 2)]}
    assert graph_of(raw)["5:0:0"] == {"width": 7, "height": 8}


def test_values_behind_a_group_or_an_unknown_class_inside_are_not_shifted() -> None:
    raw = file({"nodes": [inner("workflow>H", 0, 0), inner("EmptyImage", 1, 2)]}, 3, 4, 7, 8)
    raw["extra"]["groupNodes"]["H"] = {"nodes": [inner("EmptyImage", 5, 6)]}
    graph = graph_of(raw)
    assert graph["5:0:0"] == {"width": 3, "height": 4}
    assert graph["5:1"] == {"width": 7, "height": 8}
    unknown = {"type": "Nope", "widgets_values": [0, 0]}
    raw = file({"nodes": [unknown, {"type": "Note", "widgets_values": ["x"]}, inner("EmptyImage", 1, 2)]})
    raw["nodes"][0]["widgets_values"] = [3, 4, 7, 8]
    graph = graph_of(raw)
    assert graph["5:2"] == {"width": 7, "height": 8}
    assert "5:0" in graph, "a class inside that the engine lacks is named, whatever is linked to it"


@pytest.mark.parametrize("external", [7, [[{}, 0]], [[[], []], "x", []], [[0, 0]]])
def test_what_leads_out_of_a_group_is_read_tolerantly(external: Any) -> None:
    assert graph_of(file({"nodes": [inner("EmptyImage", 1, 2)], "external": external}))["6"]["images"]


def test_subgraphs_of_the_file_stay() -> None:
    raw = file({"nodes": [inner("EmptyImage", 1, 2)]}, 7, 8)
    raw["definitions"] = {"subgraphs": [{"id": "s", "nodes": [image(7, 3, 4)], "links": []}]}
    raw["nodes"].append({"id": 30, "type": "s"})
    graph = graph_of(raw)
    assert graph["30:7"] == {"width": 3, "height": 4}
    assert graph["5:0"] == {"width": 7, "height": 8}


@pytest.mark.parametrize(
    "group",
    [None, {}, {"nodes": []}, {"nodes": [inner("PrimitiveNode", 3)]}, {"nodes": [inner("workflow>G")] * 50}],
    ids=["none", "empty", "no nodes", "a primitive", "itself"],
)
def test_what_cant_be_opened_is_refused_by_node(group: Any) -> None:
    with pytest.raises(InvalidGraph, match=r"group node|contains itself|more than"):
        graph_of(file(group))


def test_what_comes_out_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui_groups, "MAX_EXPANDED", 3)
    group = {"nodes": [inner("EmptyImage", 1, 2)] * 4}
    with pytest.raises(InvalidGraph, match=r"Node 5 .*: it is a group node"):
        graph_of(file(group))


def test_one_that_is_switched_off_is_told() -> None:
    raw = file({"nodes": [inner("EmptyImage", 1, 2)]}, 7, 8)
    raw["nodes"][0]["mode"] = 2
    graph, warnings = api_format(raw, INFO)
    assert isinstance(graph, dict)
    assert set(graph) == {"6"}
    (warning,) = warnings
    assert warning.startswith("Node 5 (workflow>G): it is switched off and does not run; ")


@pytest.mark.parametrize("extra", [None, [], {}, {"groupNodes": []}, {"groupNodes": {"unused": {}}}])
def test_a_file_without_groups_is_left_alone(extra: Any) -> None:
    raw = {"nodes": [image(1, 7, 8)], "extra": extra}
    assert ui_groups.with_groups_opened(raw, INFO, [], []) is raw


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.sampled_from(["", "workflow>Pic", "EmptyImage", "x"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["nodes", "links", "type", "inputs", "outputs", "name", "widget", "external", "config"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.data())
def test_no_group_makes_it_fail(data: st.DataObject) -> None:
    raw = json.loads(CASE.read_text())
    raw["extra"]["groupNodes"]["Pic"] = data.draw(JSON)
    raw["nodes"][0] |= {"inputs": data.draw(JSON), "widgets_values": data.draw(JSON)}
    try:
        graph, _ = api_format(raw, INFO)
    except InvalidGraph:
        return
    assert isinstance(graph, dict)
