"""An input of an unknown kind shifts no other value: its node is refused, or a warning names the input."""

from typing import Any

import pytest

from comfy_mcp.domain.api_format import api_format
from comfy_mcp.domain.errors import InvalidGraph
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.object_info import ObjectInfo
from tests.domain.test_ui_hosts import hosting
from tests.domain.ui_files import converted, one

MANY = [
    ["COMFY_FUTURE_V3", {}],
    ["COMFY_DYNAMICGROUP_V3", {"template": {"required": {"x": ["INT", {}]}}}],
    ["COMFY_MATCHTYPE_V4", {}],
    ["COMFY_AUTOGROW_V3", {"template": "odd"}],
    ["COMFY_DYNAMICSLOT_V3", {}],
]
"""Declarations of inputs that may bring any number of controls."""
ONE = [["NEWKIND", {}], ["COMFY_NEW", {}], ["INT", {"widgetType": "NEWCONTROL"}], [7], "odd"]
"""One control, or none."""
NONE = [
    ["*", {}],
    ["IMAGE,NEWKIND", {}],
    ["COMFY_MATCHTYPE_V3", {}],
    ["IMAGE", {}],
    ["NEWKIND", {"forceInput": True}],
]
"""Sockets, as far as anybody knows (a class gives out IMAGE)."""
NUMBER = ["INT", {}]


def between(unknown: Any) -> dict[str, Any]:
    return {"a": NUMBER, "u": unknown, "b": NUMBER}


def refused(required: dict[str, Any], *values: Any, **saved: Any) -> InvalidGraph:
    with pytest.raises(InvalidGraph) as caught:
        one(required, *values, **saved)
    error = caught.value
    assert "Export (API)" in str(error.next_step)
    (problem,) = error.problems
    assert (problem.kind, problem.node_id, problem.class_type) == ("graph_ui_format", "1", "X")
    return error


@pytest.mark.parametrize("kind", [*MANY, *ONE, *NONE])
def test_a_list_that_has_no_value_for_it_is_read_without_it(kind: Any) -> None:
    assert one(between(kind), 1, 2) == ({"a": 1, "b": 2}, ())
    inputs, (told,) = one(between(kind), 1)
    assert inputs == {"a": 1, "b": 0}, "no value where it could matter"
    assert "no saved value for 'b'" in told


@pytest.mark.parametrize("kind", MANY)
def test_values_from_an_unknown_growing_input_on_are_refused_by_node_and_input(kind: Any) -> None:
    for values in ([1, 9, 2], [1, 9, 9, 2], [1, 9, 9, 9, 2]):
        error = refused(between(kind), *values)
        assert error.problems[0].input_name == "u"
        assert "Node 1 (X), input 'u': its kind COMFY_" in str(error)
        assert "9, 2 in the list of saved values can't be given" in str(error)


@pytest.mark.parametrize("kind", ONE)
def test_a_list_with_one_value_for_each_is_read_with_it_and_another_one_refused(kind: Any) -> None:
    inputs, (warning,) = one(between(kind), 1, 9, 2)
    assert inputs == {"a": 1, "u": 9, "b": 2}
    assert "Node 1 (X), input 'u': its control is a custom node's own" in warning
    assert refused(between(kind), 1, 9, 2, 3).problems[0].input_name == "u"
    two = {**between(kind), "v": kind}
    assert one(two, 1, 2)[0] == {"a": 1, "b": 2}
    assert refused(two, 1, 2, 3).problems[0].input_name == "u", "of u or of v"
    assert one(two, 1, 8, 2, 9)[0] == {"a": 1, "u": 8, "b": 2, "v": 9}
    text = "declaration is not understood" if kind in ([7], "odd") else "is not known"
    assert text in str(refused(two, 1, 2, 3))


def test_both_sorts_in_one_class() -> None:
    required = {**between(["COMFY_FUTURE_V3", {}]), "w": ["NEWKIND", {}], "c": NUMBER}
    assert one(required, 10, 20, 30) == ({"a": 10, "b": 20, "c": 30}, ())
    assert refused(required, 10, 99, 20, 5, 30).problems[0].input_name == "u"
    assert refused(required, 10, 20, 5, 30).problems[0].input_name == "u"
    assert refused(required, 10, 20).problems[0].input_name == "u"


def test_the_file_says_which_are_controls() -> None:
    required = between(["NEWKIND", {}])
    socket = {"name": "u", "type": "NEWKIND", "link": None}
    control = {**socket, "widget": {"name": "u"}}
    assert one(required, 1, 2, 3, inputs=[socket])[0] == {"a": 1, "b": 2}
    assert one(required, 1, 2, inputs=[control])[0] == {"a": 1, "u": 2, "b": 0}
    other = {"name": "image", "type": "IMAGE", "link": None}
    assert one(required, 1, 2, inputs=[other])[0] == {"a": 1, "b": 2}, "it is newer than the file"


def test_two_readings_of_one_length_are_refused() -> None:
    required = {"seed": ["INT", {}], "u": ["NEWKIND", {}], "b": NUMBER}
    assert one(required, 5, "fixed", 2) == ({"seed": 5, "b": 2}, ())
    assert refused(required, 5, 9, 2).problems[0].input_name == "u", "without the place behind the seed?"
    assert one(required, 5, "fixed", 9, 2)[0] == {"seed": 5, "u": 9, "b": 2}
    forced = {**between(["NEWKIND", {}]), "gone": ["INT", {"forceInput": True}]}
    assert one(forced, 1, 2)[0] == {"a": 1, "b": 2}
    assert refused(forced, 1, 2, 3).problems[0].input_name == "u"
    choice = ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "x", "inputs": {"required": {"n": NUMBER}}}]}]
    grown = {"u": ["NEWKIND", {}], "choice": choice, "b": NUMBER}
    assert refused(grown, "x", 9, 1).problems[0].input_name == "u", "u takes the choice away"


@pytest.mark.parametrize("kind", [*MANY, *ONE])
def test_names_leave_the_other_inputs_as_they_are_and_the_unknown_one_is_told(kind: Any) -> None:
    names = {"a": 1, "u": 9, "b": 2}
    for values, saved in (([1, 9, 2], {"widgets_values_named": names}), ([], {"widgets_values": names})):
        inputs, warnings = one(between(kind), *values, **saved)
        assert inputs == names
        assert any("Node 1 (X), input 'u': its " in warning for warning in warnings)
    assert one(between(kind), 1, 2, widgets_values_named={"a": 1, "b": 2}) == ({"a": 1, "b": 2}, ())


@pytest.mark.parametrize("kind", MANY)
def test_what_an_unknown_input_grew_is_sent_by_its_name(kind: Any) -> None:
    names = {"a": 1, "u": None, "u.x": 7, "b": 2}
    inputs, warnings = one(between(kind), 1, 7, 2, widgets_values_named=names)
    assert inputs == {"a": 1, "u.x": 7, "b": 2}
    assert any("input 'u.x': its kind COMFY_" in each and "7 is sent as it is" in each for each in warnings)


def test_a_dynamic_combo_of_an_unknown_declaration_has_a_control_and_perhaps_more() -> None:
    required = between(["COMFY_DYNAMICCOMBO_V3", {"options": "odd"}])
    assert one(required, 1, "x", 2)[0] == {"a": 1, "u": "x", "b": 2}
    assert refused(required, 1, "x", 9, 2).problems[0].input_name == "u"


def test_an_unknown_input_behind_a_choice_counts_where_it_is_chosen() -> None:
    grown = {"required": {"u": ["COMFY_FUTURE_V3", {}]}}
    options = [{"key": "x", "inputs": grown}, {"key": "y", "inputs": {}}]
    required = {"choice": ["COMFY_DYNAMICCOMBO_V3", {"options": options}], "b": NUMBER}
    assert refused(required, "x", 9, 2).problems[0].input_name == "choice.u"
    assert one(required, "y", 2)[0] == {"choice": "y", "b": 2}


def test_the_values_of_a_subgraphs_node_are_not_shifted_either() -> None:
    declared = {"X": {"input": {"required": between(["COMFY_FUTURE_V3", {}])}, "output": []}}
    names = ("a", "u", "b")
    sockets = [
        {"name": name, "type": "INT", "link": at, "widget": {"name": name}} for at, name in enumerate(names)
    ]
    inside = {"id": 7, "type": "X", "inputs": sockets, "widgets_values": [1, 2]}
    links = [(at, -10, at, 7, at) for at in range(3)]

    def file(*values: Any, **host: Any) -> dict[str, Any]:
        found: dict[str, Any] = hosting([inside], *values, links=links, inputs=names, **host)
        return found

    assert converted(file(5, 6), **declared)[0]["3:7"]["inputs"] == {"a": 5, "b": 6}
    assert converted(file(5), **declared)[0]["3:7"]["inputs"] == {"a": 5, "b": 2}
    named = file(5, 9, 6, widgets_values_named={"a": 5, "u": 9, "b": 6})
    assert converted(named, **declared)[0]["3:7"]["inputs"] == {"a": 5, "b": 6}
    with pytest.raises(InvalidGraph) as caught:
        converted(file(5, 9, 6), **declared)
    (problem,) = caught.value.problems
    assert (problem.node_id, problem.input_name) == ("3", "u")

    outer = file(5, 9, 6)
    (held,) = outer["definitions"]["subgraphs"]
    host = {"id": 8, "type": "sub", "inputs": sockets, "widgets_values": [1, 2]}
    outer["definitions"]["subgraphs"].append({**held, "id": "outer", "nodes": [host], "links": [
        {**link, "target_id": 8} for link in held["links"]
    ]})  # fmt: skip
    outer["nodes"] = [{**outer["nodes"][0], "type": "outer"}]
    with pytest.raises(InvalidGraph, match=r"Node 3 \(subgraph 'outer'\), input 'u'"):
        converted(outer, **declared)


@pytest.mark.parametrize("kind", [MANY[0], ONE[0]])
def test_the_values_of_a_group_node_are_not_shifted_either(kind: Any) -> None:
    info = ObjectInfo.parse({"X": {"input": {"required": between(kind)}, "output": ["INT"]}})

    def inputs(own: Any, *values: Any, mode: int = 0, sockets: Any = ()) -> Any:
        inside = {"type": "X", "widgets_values": own, "inputs": list(sockets)}
        group = {"nodes": [inside], "links": []}
        user = {"id": 5, "type": "workflow>G", "widgets_values": list(values), "mode": mode}
        other = {"id": 6, "type": "X", "widgets_values": [1, 2]}
        file = {"nodes": [user, other], "extra": {"groupNodes": {"G": group}}}
        graph, _ = api_format(file, info)
        assert isinstance(graph, dict)
        return graph["5:0"]["inputs"] if "5:0" in graph else None

    assert inputs([1, 2], 5, 6) == {"a": 5, "b": 6}
    assert inputs(None, 5) == {"a": 5, "b": 0}
    for own in (None, [1, 9, 2]):
        with pytest.raises(InvalidGraph) as caught:
            inputs(own, 5, 9, 6)
        (problem,) = caught.value.problems
        assert (problem.node_id, problem.class_type, problem.input_name) == ("5:0", "X", "u")
        assert inputs(own, 5, 9, 6, mode=2) is None, "switched off"
    if kind in ONE:
        socket = {"name": "u", "type": "NEWKIND", "link": None}
        assert inputs(None, 5, 6, sockets=[socket]) == {"a": 5, "b": 6}


@pytest.mark.parametrize("kind", MANY)
def test_a_required_input_of_an_unknown_growing_kind_without_value_is_a_doubt(kind: Any) -> None:
    info = ObjectInfo.parse({"X": {"input": {"required": between(kind)}, "output": [], "output_node": True}})

    def found(**more: Any) -> list[Any]:
        raw = {"1": {"class_type": "X", "inputs": {"a": 1, "b": 2, **more}}}
        report = check_graph(parse_graph(raw), info)
        assert not report.problems
        return [(doubt.kind, doubt.node_id, doubt.input_name, doubt.message) for doubt in report.doubts]

    ((what, node, name, message),) = found()
    assert (what, node, name) == ("required_input_missing", "1", "u")
    assert f"{kind[0]}, which is not understood here" in message
    assert found(u=3) == found(**{"u.x": 3}) == []
