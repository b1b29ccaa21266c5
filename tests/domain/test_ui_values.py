"""Saved values of odd and old files, controls of custom nodes, nodes that live in the editor only."""

from typing import Any

import pytest

from comfy_mcp.domain import ui_scopes
from comfy_mcp.domain.api_format import api_format
from comfy_mcp.domain.errors import MAX_WARNINGS, InvalidGraph
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.missing import model_links
from comfy_mcp.domain.object_info import ObjectInfo
from tests.domain.ui_files import CLASSES, converted, handing, image, one, save


def test_values_of_inputs_that_lost_their_control_have_their_places() -> None:
    inputs, warnings = one(
        {"a": ["STRING", {}], "forced": ["STRING", {"forceInput": True}], "b": ["STRING", {}]}, "1", "", "2"
    )
    assert inputs == {"a": "1", "b": "2"}
    assert warnings == ()


def test_a_list_without_places_behind_seeds_is_read_without_them_and_told() -> None:
    inputs, warnings = one({"seed": ["INT"], "steps": ["INT"], "cfg": ["FLOAT"]}, 5, 20, 8.0)
    assert inputs == {"seed": 5, "steps": 20, "cfg": 8.0}
    assert "no place for what happens to the seed" in warnings[0]


def test_a_list_that_fits_nothing_is_read_by_place_and_what_is_left_is_told() -> None:
    inputs, warnings = one({"seed": ["INT"], "steps": ["INT"]}, 5, 20, 8, *range(9))
    assert inputs == {"seed": 5, "steps": 8}
    assert warnings == ("Node 1 (X): the class has no input for saved values: 0, 1, 2, 3, 4, 5, 6, 7, 8.",)


def test_a_long_value_is_told_in_short() -> None:
    _, warnings = one({"a": ["STRING"]}, "x", "y" * 500)
    assert len(warnings[0]) < 200


def test_the_place_behind_a_seed_is_its_controls_whatever_stands_there() -> None:
    for odd in (True, False, None, "randomize"):
        assert one({"seed": ["INT"], "steps": ["INT"]}, 5, odd, 20)[0] == {"seed": 5, "steps": 20}
    combo = ["COMBO", {"options": ["a"], "control_after_generate": True}]
    assert one({"kind": combo, "steps": ["INT"]}, "a", "fixed", "", 20)[0] == {"kind": "a", "steps": 20}


def test_an_upload_button_stands_behind_the_required_inputs() -> None:
    info = {
        "required": {"image": [["a.png"], {"image_upload": True}], "channel": [["red", "blue"]]},
        "optional": {"more": ["INT", {"default": 1}]},
    }
    file = {"nodes": [{"id": 1, "type": "X", "widgets_values": ["a.png", "blue", "image", 7]}]}
    graph, warnings = converted(file, X={"input": info, "output": []})
    assert graph["1"]["inputs"] == {"image": "a.png", "channel": "blue", "more": 7}
    assert warnings == ()


def test_null_is_what_the_editor_makes_of_it() -> None:
    required = {
        "choice": [["a", "b"], {"default": "b"}],
        "file": [["a.png"], {"image_upload": True}],
        "long": ["STRING", {"multiline": True, "default": "x"}],
        "short": ["STRING", {"default": "x"}],
        "number": ["INT", {"default": 3}],
    }
    inputs, _ = one(required, None, None, None, None, None)
    assert inputs == {"choice": "a", "file": None, "long": "", "short": None, "number": None}
    assert one({"choice": ["COMBO", {"options": []}]}, None)[0] == {"choice": None}


@pytest.mark.parametrize(
    ("saved", "sent"),
    [
        (3, "3"),
        (2.5, "2.5"),
        (3.0, "3"),
        (True, "true"),
        ([1, [], ["x", None]], "1,,x,"),
        ({}, "[object Object]"),
    ],
)
def test_a_text_of_several_lines_is_a_text(saved: Any, sent: str) -> None:
    required = {"long": ["STRING", {"multiline": True}], "short": ["STRING", {}]}
    inputs, _ = one(required, saved, saved)
    assert inputs == {"long": sent, "short": {"__value__": saved} if isinstance(saved, list) else saved}


@pytest.mark.parametrize("values", [None, [], {}])
def test_a_file_that_nobody_chose_is_not_chosen(values: Any) -> None:
    """A new node shows the first file of the list; one that is saved without a file has none."""
    inputs, _ = one({"image": [["a.png"], {"image_upload": True}]}, widgets_values=values)
    assert inputs == {}


def test_a_control_of_a_custom_node_keeps_its_place_and_its_value_is_sent_with_a_warning() -> None:
    required = {"own": ["THEIR_CONTROL"], "image": ["IMAGE"], "steps": ["INT"]}
    socket = {"name": "image", "type": "IMAGE", "link": None}
    shown = {"name": "own", "type": "THEIR_CONTROL", "link": None}
    for sockets in (
        [socket],
        [socket, {**shown, "widget": {"name": "own"}}],
    ):  # as older and newer editors save it
        inputs, warnings = one(required, {"k": 1}, 20, inputs=sockets)
        assert inputs == {"own": {"k": 1}, "steps": 20}
        assert "custom node's own" in warnings[0]
    assert one(required, 20, inputs=[socket, shown]) == ({"steps": 20}, ())


def test_a_kind_without_control_and_without_value_shifts_nothing() -> None:
    inputs, warnings = one({"own": ["THEIR_SOCKET", {}], "steps": ["INT"], "grown": ["COMFY_ODD_V3", {}]}, 20)
    assert inputs == {"steps": 20}
    assert warnings == ()


def test_a_primitive_sets_only_what_is_a_control() -> None:
    """The editor looks for the control by its name, and a class whose input takes links only has none."""
    inputs = [
        {"name": name, "type": "INT", "link": link, "widget": {"name": name}}
        for link, name in enumerate(("shown", "forced"), start=1)
    ]
    given, warnings = one(
        {"shown": ["INT"], "forced": ["INT", {"forceInput": True}]}, inputs=inputs, beside=[
            handing(2, "PrimitiveNode", None, 7, "fixed")
        ], links=[[1, 2, 0, 1, 0, "INT"], [2, 2, 0, 1, 1, "INT"]],
    )  # fmt: skip
    assert given == {"shown": 7}
    assert warnings == ("Node 1 (X), input 'forced': 7 of the primitive is not sent: it is no control.",)


def test_a_primitive_without_a_value_loses_none() -> None:
    forced = {"name": "forced", "type": "INT", "link": 1, "widget": {"name": "forced"}}
    given, warnings = one(
        {"forced": ["INT", {"forceInput": True}]}, inputs=[forced], beside=[
            handing(2, "PrimitiveNode", None, None, "fixed")
        ], links=[[1, 2, 0, 1, 0, "INT"]],
    )  # fmt: skip
    assert given == {}
    assert warnings == ()


def test_a_link_to_a_control_that_the_class_has_no_more_is_told() -> None:
    inputs = [
        {"name": name, "type": "INT", "link": link, "widget": {"name": name}}
        for link, name in enumerate(("shown", "gone", "gone.child", "free"), start=1)
    ]
    inputs[3]["link"] = None
    given, warnings = one(
        {"shown": ["INT"]}, inputs=inputs, beside=[image(2, 8, 8)],
        links=[[number, 2, 0, 1, number - 1, "INT"] for number in (1, 2, 3)],
    )  # fmt: skip
    assert set(given) == {"shown", "gone", "gone.child"}
    (warning,) = warnings
    assert "input 'gone': the class has no such input; ComfyUI's editor leaves its link out" in warning


def test_a_chain_of_reroutes_that_is_too_long_is_refused() -> None:
    chain = [handing(number, "Reroute", number - 1) for number in range(2, 150)]
    links = [[number, number, 0, number + 1, 0, "IMAGE"] for number in range(1, 150)]
    file = {"nodes": [image(1, 8, 8), *chain, save(150, 149)], "links": links}
    with pytest.raises(InvalidGraph, match="its link leads in a ring or through over 100 reroutes"):
        converted(file)
    short = {
        "nodes": [image(1, 8, 8), *chain[:50], save(52, 51)],
        "links": [*links[:50], [51, 51, 0, 52, 0, "X"]],
    }
    assert converted(short)[0]["52"]["inputs"]["images"] == ["1", 0]


@pytest.mark.parametrize(
    ("wanted", "inputs", "taken"),
    [
        ("B", ["A,B", "b,C"], 1),
        ("B", ["B", "A"], 0),
        ("B", ["A", "A", "*"], 2),
        ("*", ["A", "C"], 1),
        ("*", ["A"], 0),
        ("B", ["A", "C"], None),
    ],
)
def test_a_bypassed_node_hands_on_what_fits_both_ends(
    wanted: str, inputs: list[str], taken: int | None
) -> None:
    sockets = [{"name": str(at), "type": kind, "link": at} for at, kind in enumerate(inputs)]
    off = {"id": 9, "type": "Off", "mode": 4, "inputs": sockets}
    off["outputs"] = [{"type": "A"}, {"type": "B"}]
    links = [[at, at + 2, 0, 9, at, kind] for at, kind in enumerate(inputs)]
    given, _ = one(
        {"a": [wanted]},
        inputs=[{"name": "a", "type": wanted, "link": 20}],
        beside=[off, *(image(at + 2, 8, 8) for at in range(len(inputs)))],
        links=[*links, [20, 9, 1, 1, 0, wanted]],
    )
    assert given == ({} if taken is None else {"a": [str(taken + 2), 0]})


def test_own_options_of_any_shape() -> None:
    combo = {"input": {"required": {"choice": ["COMBO", {"options": []}]}}, "output": []}
    file = {"nodes": [{"id": 1, "type": "CustomCombo", "widgets_values": ["b", 0, ["a"], "b"]}]}
    graph, _ = converted(file, CustomCombo=combo)
    assert graph["1"]["inputs"]["index"] == 1
    file = {"nodes": [{"id": 1, "type": "CustomCombo", "widgets_values": ["b", 0, *["a"] * 500]}]}
    assert "no input for saved values" in converted(file, CustomCombo=combo)[1][0]


def test_values_of_nodes_that_name_each_other_are_followed() -> None:
    file = {
        "nodes": [
            image(1, 8, 8),
            handing(2, "SetNode", 1, "picture"),
            handing(3, "GetNode", None, "picture"),
            save(4, 2),
            handing(5, "GetNode", None, "nobody"),
            save(6, 3),
            handing(7, "GetNode"),
            save(8, 4),
            save(9, 5),
        ],
        "links": [
            *([1, 1, 0, 2, 0, "IMAGE"], [2, 3, 0, 4, 0, "IMAGE"], [3, 5, 0, 6, 0, "IMAGE"]),
            *([4, 7, 0, 8, 0, "IMAGE"], [5, 2, 0, 9, 0, "IMAGE"]),
        ],
    }
    graph, _ = converted(file)
    assert list(graph) == ["1", "4", "6", "8", "9"]
    assert [graph[node]["inputs"].get("images") for node in "4689"] == [["1", 0], None, None, ["1", 0]]


def test_another_name_is_a_class_of_an_engine() -> None:
    file = {"nodes": [image(1, 8, 8), handing(2, "ResetNode", 1)], "links": [[1, 1, 0, 2, 0, "IMAGE"]]}
    graph = parse_graph(converted(file)[0])
    error = check_graph(graph, ObjectInfo.parse(CLASSES)).error()
    assert isinstance(error, InvalidGraph)
    assert "ResetNode" in error.message
    assert "Workflow > Export (API)" in error.next_step


def test_an_unknown_class_that_nothing_is_linked_to_is_left_out_and_told() -> None:
    nodes = [image(1, 8, 8), handing(2, "NoSuch"), handing(3, "Label (rgthree)"), {"id": 4, "type": "Note"}]
    graph, warnings = converted({"nodes": nodes})
    assert list(graph) == ["1"]
    assert warnings == (
        "Node 2 (NoSuch): this engine has no such class; it is left out, as nothing is linked to it.",
    )


def test_a_name_is_looked_for_around_the_subgraph_too() -> None:
    inside = {
        "id": "sub",
        "nodes": [handing(11, "easy getNode", None, "picture"), save(12, 1)],
        "links": [{"id": 1, "origin_id": 11, "origin_slot": 0, "target_id": 12, "target_slot": 0}],
    }
    file = {
        "nodes": [image(1, 8, 8), handing(2, "easy setNode", 1, "picture"), {"id": 3, "type": "sub"}],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
        "definitions": {"subgraphs": [inside]},
    }
    assert converted(file)[0]["3:12"]["inputs"]["images"] == ["1", 0]


def test_a_file_of_many_odd_values_is_told_in_part() -> None:
    file = {
        "nodes": [
            {"id": number, "type": "EmptyImage", "widgets_values": [1, 2, 3]}
            for number in range(MAX_WARNINGS + 30)
        ]
    }
    _, warnings = converted(file)
    assert len(warnings) == MAX_WARNINGS + 1
    assert warnings[-1] == "And 30 more warnings."


def test_links_through_very_many_sockets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui_scopes, "MAX_STEPS", 1000)
    sockets = [{"name": str(number), "type": "A", "link": number} for number in range(200)]
    wide = {"id": 1, "type": "EmptyImage", "mode": 4, "inputs": sockets, "outputs": [{"type": "IMAGE"}]}
    links = [[number, 1, 0, number, 0, "IMAGE"] for number in range(2, 20)]
    assert converted({"nodes": [wide, save(2, 2)], "links": links})
    with pytest.raises(InvalidGraph, match="too many bypassed nodes"):
        converted({"nodes": [wide, *(save(number, number) for number in range(2, 20))], "links": links})


def test_subgraphs_nested_deeper_than_anybody_nests_them_are_refused() -> None:
    inside = [{"id": f"s{level}", "nodes": [{"id": 9, "type": f"s{level + 1}"}]} for level in range(20_000)]
    with pytest.raises(InvalidGraph, match="Node 1 holds subgraphs that are nested more than 100 levels"):
        converted({"nodes": [{"id": 1, "type": "s0"}], "definitions": {"subgraphs": inside}})


def test_nested_subgraphs_that_hold_only_notes_open_to_nothing() -> None:
    inside: list[dict[str, Any]] = [
        {"id": f"s{level}", "nodes": [{"id": number, "type": f"s{level + 1}"} for number in (1, 2)]}
        for level in range(40)
    ]
    inside.append({"id": "s40", "nodes": [{"id": 1, "type": "Note"}]})
    graph, _ = converted({"nodes": [{"id": 1, "type": "s0"}, image(2)], "definitions": {"subgraphs": inside}})
    assert list(graph) == ["2"]


def test_old_names_of_classes_are_replaced_as_the_editor_does_it() -> None:
    known = {"input": {"required": {"a": ["INT"]}}, "output": []}
    file = {"nodes": [{"id": 1, "type": "ConditioningAverage ", "widgets_values": [3]}]}
    graph, _ = converted(file, ConditioningAverage=known)
    assert (graph["1"]["class_type"], graph["1"]["inputs"]) == ("ConditioningAverage", {"a": 3})


def test_a_file_says_where_an_unknown_class_and_a_missing_model_come_from() -> None:
    loader = {
        "input": {"required": {"name": [["here.safetensors"]]}},
        "output": ["MODEL"],
        "output_node": True,
    }
    models = [
        {"name": "gone.safetensors", "directory": "checkpoints", "url": "https://x.test/gone"},
        "odd",
        {},
    ]
    file: dict[str, Any] = {
        "nodes": [
            {"id": 1, "type": "Unheard", "properties": {"cnr_id": "some-pack"}, "outputs": [{"type": "X"}]},
            {
                "id": 2,
                "type": "Loader",
                "widgets_values": ["gone.safetensors"],
                "properties": {"models": models},
            },
            {"id": 3, "type": "Loader", "widgets_values": ["dir\\here.safetensors"]},
            {"id": 4, "type": "Unheard2", "inputs": [{"name": "x", "type": "X", "link": 1}]},
            "odd",
        ],
        "links": [[1, 1, 0, 4, 0, "X"]],
        "definitions": {"subgraphs": ["odd", {"id": "s", "nodes": "odd"}]},
    }
    info = ObjectInfo.parse({"Loader": loader})
    graph, _ = api_format(file, info)
    report = check_graph(parse_graph(graph), info, model_links({"prompt": file}))
    assert [(each.name, each.pack) for each in report.missing.classes] == [
        ("Unheard", "some-pack"),
        ("Unheard2", None),
    ]
    first = report.missing.models[0]
    assert (first.name, first.folder, first.url) == ("gone.safetensors", "checkpoints", "https://x.test/gone")
    assert model_links(None) == model_links({"nodes": 3, "definitions": 4}) == {}


def test_a_file_in_a_folder_is_sent_with_the_slash_that_the_engine_lists() -> None:
    loader = {"input": {"required": {"name": [["dir/a.ckpt", "b.ckpt", "odd\\c.ckpt"]]}}, "output": ["MODEL"]}
    info = ObjectInfo.parse({"Loader": loader})
    for given, sent in (
        ("dir\\a.ckpt", "dir/a.ckpt"),
        ("odd/c.ckpt", "odd\\c.ckpt"),
        ("x\\b.ckpt", "x\\b.ckpt"),
    ):
        file = {"nodes": [{"id": 1, "type": "Loader", "widgets_values": [given]}]}
        graph, warnings = converted(file, Loader=loader)
        assert graph["1"]["inputs"]["name"] == sent
        assert bool(warnings) is (given != sent)
        raw = {
            "1": {"class_type": "Loader", "inputs": {"name": given, "other": "a/b"}},
            "2": 3,
            "3": {"inputs": {}},
        }
        spelled, warnings = api_format({"prompt": raw}, info)
        assert spelled == (
            {"prompt": raw}
            if given == sent
            else {**raw, "1": {"class_type": "Loader", "inputs": {"name": sent, "other": "a/b"}}}
        )
        assert [repr(sent) in warning for warning in warnings] == [True] * (given != sent)


@pytest.mark.parametrize("meta", [{}, {"_meta": None}, {"_meta": {"title": "Mine"}}])
def test_a_class_that_the_engine_replaces_gets_a_title(meta: dict[str, Any]) -> None:
    info = ObjectInfo.parse(CLASSES, replaceable={"Old", "EmptyImage"})
    graph = {"1": {"class_type": "Old", "inputs": {}, **meta}, "2": {"class_type": "SaveImage", "inputs": {}}}
    converted, warnings = api_format(graph, info)
    assert isinstance(converted, dict)
    assert converted["1"]["_meta"] == (meta.get("_meta") or {"title": "Old"})
    assert converted["2"] == graph["2"]
    assert warnings == ()
    assert check_graph(parse_graph(converted), info).missing.classes == ()
