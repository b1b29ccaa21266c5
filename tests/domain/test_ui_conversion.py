"""UI format → API format, against what ComfyUI's own editor exports.

tests/data/ui_format/*.json hold workflows that were built and saved in the editor (comfyui-frontend-package
1.32.9 on ComfyUI 0.3.75) for these tests: `ui` is what it saves (without positions and colours), `api`
what it sends for the same workflow. object_info.json are the classes as that ComfyUI declares them.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain import ui_scopes
from comfy_mcp.domain.api_format import api_format
from comfy_mcp.domain.errors import ErrorCode, InvalidGraph
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.widgets import Widget, widgets_of

DATA = Path(__file__).parents[1] / "data" / "ui_format"
INFO = ObjectInfo.parse(json.loads((DATA / "object_info.json").read_text()))
RECORDED = sorted(path for path in DATA.glob("*.json") if path.name != "object_info.json")


def node(number: object, kind: str, *values: object, **more: Any) -> dict[str, Any]:
    return {"id": number, "type": kind, "widgets_values": list(values), **more}


def linked(name: str, link: int | None, kind: str = "IMAGE") -> dict[str, Any]:
    return {"name": name, "type": kind, "link": link}


IMAGE_OUT = {"outputs": [{"name": "IMAGE", "type": "IMAGE", "links": []}]}


def ui(*nodes: dict[str, Any], links: Any = (), subgraphs: Any = ()) -> dict[str, Any]:
    return {"nodes": list(nodes), "links": list(links), "definitions": {"subgraphs": list(subgraphs)}}


def converted(raw: object) -> dict[str, Any]:
    graph, _ = api_format(raw, INFO)
    assert isinstance(graph, dict)
    return graph


def refused(raw: object) -> InvalidGraph:
    with pytest.raises(InvalidGraph) as caught:
        api_format(raw, INFO)
    assert caught.value.code is ErrorCode.GRAPH_UI_FORMAT
    assert "Export (API)" in caught.value.next_step
    return caught.value


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_as_the_editor_exports_it(path: Path) -> None:
    recorded = json.loads(path.read_text())
    assert converted(recorded["ui"]) == recorded["api"]
    assert converted({"prompt": recorded["ui"], "client_id": "x"}) == recorded["api"]


def test_five_workflows_were_recorded() -> None:
    assert len(RECORDED) == 5


def test_what_comes_out_is_a_graph_that_runs() -> None:
    graph = parse_graph(converted(json.loads((DATA / "subgraph_twice.json").read_text())["ui"]))
    assert check_graph(graph, INFO).outputs == ("4", "7")
    assert graph.nodes[NodeId("5:3")].title == "Upscale Image"


@pytest.mark.parametrize("raw", [None, [1], "text", {"1": {"class_type": "A", "inputs": {}}}, {"prompt": {}}])
def test_what_is_not_ui_format_stays_as_it_is(raw: object) -> None:
    assert api_format(raw, INFO) == (raw, ())


def test_without_an_engine_it_stays_and_is_refused_with_the_reason() -> None:
    raw = ui(node(1, "EmptyImage", 8, 8, 1, 0))
    assert api_format(raw, None) == (raw, ())
    with pytest.raises(InvalidGraph, match="no engine answers") as caught:
        parse_graph(raw)
    assert caught.value.code is ErrorCode.GRAPH_UI_FORMAT


@pytest.mark.parametrize("mode", [2, 4])
def test_a_muted_or_bypassed_subgraph_takes_what_is_inside_with_it(mode: int) -> None:
    inside = {
        "id": "sub",
        "inputs": [{"name": "image"}],
        "nodes": [node(7, "ImageInvert", inputs=[linked("image", 1)], **IMAGE_OUT)],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 7, "target_slot": 0},
            {"id": 2, "origin_id": 7, "origin_slot": 0, "target_id": -20, "target_slot": 0},
        ],
    }
    raw = ui(
        node(1, "EmptyImage", 8, 8, 1, 0),
        node(3, "sub", mode=mode, inputs=[linked("image", 1)], **IMAGE_OUT),
        node(4, "SaveImage", "x", inputs=[linked("images", 2)]),
        links=[[1, 1, 0, 3, 0, "IMAGE"], [2, 3, 0, 4, 0, "IMAGE"]],
        subgraphs=[inside],
    )
    graph = converted(raw)
    assert list(graph) == ["1", "4"]
    assert graph["4"]["inputs"].get("images") == (["1", 0] if mode == 4 else None)
    raw["nodes"][1]["mode"] = 0
    assert converted(raw)["3:7"]["inputs"] == {"image": ["1", 0]}
    assert converted(raw)["4"]["inputs"]["images"] == ["3:7", 0]


def test_a_subgraph_that_contains_itself_is_refused() -> None:
    inside = {"id": "sub", "nodes": [node(7, "sub")], "links": []}
    error = refused(ui(node(1, "sub"), subgraphs=[inside]))
    assert error.message == "Node 1 is a subgraph that contains itself, as node 1:7."
    assert error.problems[0].node_id == "1"


def test_of_a_subgraph_that_contains_itself_through_others_both_ends_of_the_circle_are_named() -> None:
    one = {"id": "one", "nodes": [node(2, "empty"), node(7, "two")], "links": []}
    two = {"id": "two", "nodes": [node(8, "ImageInvert"), node(9, "one")], "links": []}
    empty = {"id": "empty", "nodes": [node(1, "ImageInvert")], "links": []}
    error = refused(ui(node(1, "empty"), node(3, "one"), subgraphs=[one, two, empty]))
    assert error.message == "Node 3 is a subgraph that contains itself, as node 3:7:9."
    far = {"id": "far", "nodes": [node("x" * 999, "far")], "links": []}
    assert len(refused(ui(node(1, "far"), subgraphs=[far])).message) < 300


def test_more_nodes_than_anybody_runs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui_scopes, "MAX_NODES", 8)
    inside = {"id": "a", "nodes": [node(n, "ImageInvert") for n in range(3)], "links": []}
    assert len(converted(ui(*(node(n, "a") for n in range(2)), subgraphs=[inside]))) == 6
    assert "more than 8 nodes" in refused(ui(*(node(n, "a") for n in range(3)), subgraphs=[inside])).message


@pytest.mark.parametrize("raw", [ui(), ui(node(1, "Note", "hello")), ui(node(1, "EmptyImage", 8, mode=2))])
def test_nothing_that_runs_is_said(raw: object) -> None:
    with pytest.raises(InvalidGraph, match="This workflow has nothing to run") as caught:
        api_format(raw, INFO)
    assert caught.value.code is ErrorCode.GRAPH_UI_FORMAT
    assert "Export (API)" not in caught.value.next_step  # it would have nothing to run either


def test_a_group_node_is_named() -> None:
    error = refused(ui(node(5, "workflow>My group", inputs=[linked("a", 1)]), links=[[1, 4, 0, 5, 0, "*"]]))
    assert "Node 5 (workflow>My group): it is a group node" in error.message


def test_an_unknown_class_goes_only_where_nothing_is_linked_to_it() -> None:
    raw = ui(
        node(1, "EmptyImage", 8, 8, 1, 0),
        node(2, "Fast Groups Muter"),
        node(3, "Unheard", 5, inputs=[linked("image", 1)]),
        links=[[1, 1, 0, 3, 0, "IMAGE"]],
    )
    graph = converted(raw)
    assert list(graph) == ["1", "3"]
    assert graph["3"] == {
        "inputs": {"image": ["1", 0]},
        "class_type": "Unheard",
        "_meta": {"title": "Unheard"},
    }


def test_links_that_lead_nowhere_leave_the_control_its_value() -> None:
    raw = ui(
        node(1, "EmptyImage", 8, 8, 1, 0, inputs=[linked("width", 1, "INT"), linked("height", 99, "INT")]),
        node(2, "PrimitiveNode"),
        node(3, "SaveImage", "x", inputs=[linked("images", 2), linked("filename_prefix", 3, "STRING")]),
        node(4, "ImageInvert", mode=4, inputs=[linked("image", None)], outputs=[{"type": "LATENT"}]),
        node(6, "Note", "not a source"),
        links=[[1, 2, 0, 1, 0, "INT"], [2, 4, 0, 3, 0, "IMAGE"], [3, 6, 0, 3, 1, "STRING"], "odd", [1, 2]],
    )
    graph = converted(raw)
    assert graph["1"]["inputs"] == {"width": 8, "height": 8, "batch_size": 1, "color": 0}
    assert graph["3"]["inputs"] == {"filename_prefix": "x"}


@pytest.mark.parametrize(
    ("links", "warned"),
    [
        ([[1, 2, 0, 1, 0, "INT"], [2, 1, 0, 3, 0, "IMAGE"]], []),
        ([[1, 99, 0, 1, 0, "INT"], [2, 1, 0, 3, 0, "IMAGE"]], ["width"]),  # no such node
        ([[2, 1, 0, 3, 0, "IMAGE"]], ["width"]),  # no such link
        ([[1, 99, 0, 1, 0, "INT"]], ["width", "images"]),
    ],
)
def test_a_link_that_comes_from_nowhere_is_told(links: list[object], warned: list[str]) -> None:
    raw = ui(
        node(1, "EmptyImage", 8, 8, 1, 0, inputs=[linked("width", 1, "INT")]),
        node(2, "PrimitiveNode", 64, outputs=[{"type": "INT"}]),
        node(3, "SaveImage", "x", inputs=[linked("images", 2)]),
        links=links,
    )
    _, warnings = api_format(raw, INFO)
    told = [each for each in warnings if "leads nowhere" in each]
    assert len(told) == len(warned)
    assert all(f"input {name!r}" in each for name, each in zip(warned, told, strict=True))


def test_reroutes_in_a_ring_are_refused() -> None:
    raw = ui(
        node(1, "Reroute", inputs=[linked("", 1)], outputs=[{"type": "*"}]),
        node(2, "Reroute", inputs=[linked("", 2)], outputs=[{"type": "*"}]),
        node(3, "SaveImage", "x", inputs=[linked("images", 3)]),
        links=[[1, 2, 0, 1, 0, "*"], [2, 1, 0, 2, 0, "*"], [3, 1, 0, 3, 0, "*"]],
    )
    error = refused(raw)
    assert "input 'images': its link leads in a ring or through over 100 reroutes" in error.message
    assert (error.problems[0].node_id, error.problems[0].input_name) == ("3", "images")


def test_what_no_node_sets_is_named() -> None:
    raw = ui(
        node(1, "GetNode", "picture", outputs=[{"type": "IMAGE"}]),
        node(2, "SaveImage", "x", inputs=[linked("images", 1)]),
        links=[[1, 1, 0, 2, 0, "IMAGE"]],
    )
    graph, warnings = api_format(raw, INFO)
    assert isinstance(graph, dict)
    assert graph["2"]["inputs"] == {"filename_prefix": "x"}
    (warning,) = warnings
    assert "input 'images': it reads what a node sets as 'picture', and no node does" in warning


def test_a_subgraph_with_less_than_it_says() -> None:
    inside = {
        "id": "sub",
        "inputs": [{"name": "width"}],
        "nodes": [
            node(7, "EmptyImage", 8, 8, 1, 0, inputs=[linked("width", 1, "INT"), linked("height", 2, "INT")])
        ],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 7, "target_slot": 0},
            {"id": 2, "origin_id": -10, "origin_slot": 5, "target_id": 7, "target_slot": 1},
        ],
    }
    user = node(3, "sub", properties={"proxyWidgets": [["-1", "width"], "odd"]})
    raw = ui(
        user,
        node(4, "SaveImage", "x", inputs=[linked("images", 1)]),
        links=[[1, 3, 4, 4, 0, "IMAGE"]],
        subgraphs=[inside, {"no": "id"}],
    )
    assert converted(raw)["3:7"]["inputs"]["width"] == 8, "the control is promoted, but has no value"
    assert "images" not in converted(raw)["4"]["inputs"], "output 4 of the subgraph is linked to nothing"
    user["widgets_values"] = [16]
    assert converted(raw)["3:7"]["inputs"]["width"] == 16
    assert converted(ui(node(1, "EmptyImage", 8, inputs=[linked("width", 1)]), links=[[1, -10, 0, 1, 0]]))


@pytest.mark.parametrize(
    ("kind", "values", "found"),
    [
        ("CLIPTextEncode", ["a {red|blue} house"], "{red|blue}"),
        ("SaveImage", ["%date:yyyy-MM-dd%/x"], "%date:yyyy-MM-dd%"),
        ("SaveImage", ["%KSampler.seed%"], "%KSampler.seed%"),
        ("SaveImage", ["%year%/{a|b}"], None),
        ("CLIPTextEncode", ["100% or 3.5% sure"], None),
    ],
)
def test_what_only_the_editor_replaces_is_told(kind: str, values: list[str], found: str | None) -> None:
    graph, warnings = api_format(ui(node(1, kind, *values)), INFO)
    assert isinstance(graph, dict)
    assert values[0] in graph["1"]["inputs"].values()
    assert [found in warning for warning in warnings if found] == ([True] if found else [])
    assert bool(warnings) is (found is not None)


LETTERS = {
    "a": ["INT", {"default": 1}],
    "b": ["COMBO", {}],
    "c": ["INT", {"control_after_generate": True}],
    "d": ["COMBO", {}],
}


def read(declared: dict[str, Any], **saved: Any) -> dict[str, Any]:
    """The inputs that a node of a class with required inputs `declared` is sent with."""
    info = ObjectInfo.parse({"X": {"input": {"required": declared}, "output": []}})
    graph, _ = api_format(ui({"id": 1, "type": "X", **saved}), info)
    assert isinstance(graph, dict)
    inputs: dict[str, Any] = graph["1"]["inputs"]
    return inputs


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("a {b} c", "a b c"),
        ("100% or 3.5% {sure}", "100% or 3.5% sure"),
        ("x // comment\ny", "x \ny"),
        ("x /* c\nd */ y // z", "x  y "),
        ("a /* x", "a /* x"),
        ("http://x.y/z", "http:"),
        ("\\{a\\} {b} {a\\|b} c\\d", "{a} b a|b c\\d"),
        ('{ "k": {"j": 1} }', ' "k": "j": 1 '),
        ("{a", "a"),
        ("a} | {}", "a} | "),
        ("{// x\na}", "\na"),
    ],
)
def test_of_a_prompt_the_editor_cuts_comments_and_braces(text: str, sent: str) -> None:
    assert converted(ui(node(1, "CLIPTextEncode", text)))["1"]["inputs"]["text"] == sent


def test_variants_that_never_end_are_told_in_short() -> None:
    _, (warning,) = api_format(ui(node(1, "CLIPTextEncode", "{a" + "|b" * 5000)), INFO)
    assert len(warning) < 250


def test_values_by_name_and_values_that_are_lists() -> None:
    assert read(LETTERS, widgets_values={"b": 2, "x": 3, "videopreview": {"params": {}}}) == {
        "a": 1,
        "b": 2,
        "c": 0,
    }
    assert read(LETTERS, widgets_values=[5, [1, 2], 7, "randomize", 8, 9]) == {
        "a": 5,
        "b": {"__value__": [1, 2]},
        "c": 7,
        "d": 8,
    }
    assert read(LETTERS, widgets_values=[5, 6, 7, 8]) == {"a": 5, "b": 6, "c": 7, "d": 8}
    assert read(LETTERS, widgets_values="text") == read(LETTERS) == {"a": 1, "c": 0}


def test_which_inputs_are_controls() -> None:
    declared = {
        "required": {
            "model": ["MODEL"],
            "steps": ["INT", {"default": 3}],
            "seed": ["INT"],
            "noise_seed": ["INT", {"control_after_generate": False}],
            "socket": ["FLOAT", {"forceInput": True}],
            "odd": "INT",
        },
        "optional": {"mode": [["x", "y"]], "kind": ["COMBO", {"options": ["z"]}], "steps": ["INT"]},
        "hidden": {"id": "UNIQUE_ID"},
    }
    known = ObjectInfo.parse({"X": {"input": declared, "output": []}}).classes["X"]
    found: list[Widget] = list(widgets_of(known, {}))
    assert [widget.name for widget in found] == [
        *("steps", "seed", "control_after_generate", "noise_seed", "mode", "kind")
    ]
    assert [widget.default for widget in found if widget.sent] == [3, 0, 0, "x", "z"]
    assert [widget.name for widget in found if not widget.sent] == ["control_after_generate"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-30, 30) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
odd_nodes = st.fixed_dictionaries(
    {
        "id": st.integers(-20, 5),
        "type": st.sampled_from(["EmptyImage", "Reroute", "PrimitiveNode", "s", "?"]),
    },
    optional={
        "mode": st.sampled_from([0, 2, 4, None, "x"]),
        "inputs": json_values
        | st.lists(
            st.fixed_dictionaries(
                {"name": st.just("width"), "type": st.just("INT"), "link": st.integers(0, 5)}
            )
        ),
        "outputs": json_values,
        "properties": json_values,
        "widgets_values": json_values,
        "title": json_values,
    },
)
odd_links = st.lists(st.lists(st.integers(-20, 5), min_size=5, max_size=6) | json_values, max_size=6)


@given(
    nodes=st.lists(odd_nodes | json_values, max_size=6),
    links=odd_links | json_values,
    definitions=json_values
    | st.fixed_dictionaries(
        {
            "subgraphs": st.lists(
                st.fixed_dictionaries({"id": st.just("s"), "nodes": st.lists(odd_nodes, max_size=3)})
            )
        }
    ),
)
def test_whatever_comes_it_is_converted_or_refused(nodes: object, links: object, definitions: object) -> None:
    raw = {"nodes": nodes, "links": links, "definitions": definitions}
    graph: object = None
    with suppress(InvalidGraph):
        graph, _ = api_format(raw, INFO)
    assert graph is None or parse_graph(graph).nodes
