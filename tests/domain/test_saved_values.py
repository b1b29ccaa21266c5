"""A saved value that nothing takes is never lost without a word."""

from typing import Any

import pytest

from tests.domain.test_ui_hosts import WIDTH, hosting
from tests.domain.ui_files import converted, handing, image, one

NUMBERS = {"a": ["INT", {"default": 1}], "b": ["INT", {"default": 2}]}
NEITHER = ["a text", 7, 0, 2.5, True, False]
"""Saved values that are no list and no object."""


@pytest.mark.parametrize("values", NEITHER)
def test_values_without_places_or_names_are_told(values: Any) -> None:
    inputs, warnings = one(NUMBERS, widgets_values=values)
    assert inputs == {"a": 1, "b": 2}
    told = f"Node 1 (X): its saved values have no places or names, and none of them is read: {values!r}."
    assert warnings == (told, "Node 1 (X): the file has no saved value for 'a', 'b'; the default is sent.")
    inputs, warnings = one(NUMBERS, widgets_values=values, widgets_values_named={"a": 5, "b": 6})
    assert (inputs, warnings[0]) == ({"a": 5, "b": 6}, told)
    assert warnings[1] == "Node 1 (X), input 'a': 5 by its name, 1 by default; the former is sent."


@pytest.mark.parametrize("values", NEITHER)
def test_so_are_those_of_subgraphs_and_of_nodes_of_the_editors_own(values: Any) -> None:
    host = hosting([image(7, 8, 9, inputs=WIDTH)], links=[(1, -10, 0, 7, 0)], widgets_values=values)
    graph, (warning,) = converted(host)
    assert graph["3:7"]["inputs"]["width"] == 8
    assert warning.startswith("Node 3 (subgraph 'sub'): its saved values have no places or names")
    for kind in ("PrimitiveNode", "SetNode", "GetNode"):
        beside = handing(2, kind, None) | {"widgets_values": values}
        assert "Node 2" in one(NUMBERS, 1, 2, beside=[beside])[1][0]


@pytest.mark.parametrize("values", [None, "", [], {}])
def test_no_values_at_all_need_no_word(values: Any) -> None:
    nodes = [handing(2, kind) | {"widgets_values": values} for kind in ("PrimitiveNode", "SetNode")]
    assert one({}, widgets_values=values, beside=nodes) == ({}, ())


def test_an_object_for_a_node_of_the_editors_own_is_told() -> None:
    for kind in ("PrimitiveNode", "SetNode", "GetNode"):
        beside = handing(2, kind, None) | {"widgets_values": {"value": 7}}
        assert "none of them is read: {'value': 7}" in one(NUMBERS, 1, 2, beside=[beside])[1][0]


def test_an_object_names_the_values_of_a_subgraph() -> None:
    links = [(1, -10, 0, 7, 0)]
    file = hosting([image(7, 8, 9, inputs=WIDTH)], links=links, widgets_values={"w": 5, "x": 1, "y": None})
    graph, (warning,) = converted(file)
    assert graph["3:7"]["inputs"]["width"] == 5
    assert (
        warning == "Node 3 (subgraph 'sub'), input 'x': no control inside the subgraph takes its saved value."
    )
    file["nodes"][0]["properties"] = {"proxyWidgets": [["7", "width"]]}
    graph, (warning,) = converted(file)
    assert graph["3:7"]["inputs"]["width"] == 8
    assert warning == "Node 3 (subgraph 'sub'): its subgraph shows no control for 2 of its saved values."


@pytest.mark.parametrize("values", [[5, 6], [5, None, 6]])
@pytest.mark.parametrize("more", [{}, {"widgets_values_named": {"w": 5}}])
def test_more_values_than_a_subgraph_has_controls_are_told(values: Any, more: Any) -> None:
    file = hosting([image(7, 8, 9, inputs=WIDTH)], *values, links=[(1, -10, 0, 7, 0)], **more)
    graph, (warning,) = converted(file)
    assert graph["3:7"]["inputs"]["width"] == 5
    assert "shows no control for 1 of its saved values" in warning


def test_a_list_that_is_too_short_is_told_where_the_engine_needs_a_value() -> None:
    told = "Node 1 (X): the file has no saved value for {}; the default is sent."
    assert one(NUMBERS, 5) == ({"a": 5, "b": 2}, (told.format("'b'"),))
    assert one(NUMBERS) == ({"a": 1, "b": 2}, (told.format("'a', 'b'"),))
    linked = [{"name": "b", "type": "INT", "link": 1, "widget": {"name": "b"}}]
    links = [[1, 2, 0, 1, 0, "INT"]]
    assert one(NUMBERS, 5, inputs=linked, links=links, beside=[image(2, 8, 8)])[1] == ()
    many = {f"n{number}": ["INT", {"default": 0}] for number in range(50)}
    assert "'n9' and 40 more; the default is sent" in one(many)[1][0]


def test_what_a_class_has_gained_since_needs_no_word() -> None:
    assert one(NUMBERS, widgets_values={"b": 5}) == ({"a": 1, "b": 5}, ())
    assert one(NUMBERS, 5, widgets_values_named={"a": 5}) == ({"a": 5, "b": 2}, ())
    declared = {"required": {"a": ["INT"]}, "optional": NUMBERS | {"b": ["INT", {"default": 2}]}}
    for values in ([5], {"a": 5}):
        file = {"nodes": [{"id": 1, "type": "X", "widgets_values": values}]}
        graph, warnings = converted(file, X={"input": declared, "output": []})
        assert (graph["1"]["inputs"], warnings) == ({"a": 5, "b": 2}, ())


def test_an_object_among_values_by_name_is_sent_and_told() -> None:
    named = {"a": 5, "b": 6, "own": {"x": 1}, "videopreview": {"hidden": False}, "list": [1]}
    file = {"nodes": [{"id": 1, "type": "X", "widgets_values": named}]}
    declared = {"input": {"required": NUMBERS}, "output": [], "python_module": "custom_nodes.pack"}
    graph, (warning,) = converted(file, X=declared)
    assert graph["1"]["inputs"] == {"a": 5, "b": 6, "own": {"x": 1}, "list": {"__value__": [1]}}
    assert warning == ("Node 1 (X), input 'own': the class has no such input; {'x': 1} is sent all the same.")


def test_a_name_that_a_class_of_comfyuis_own_lacks_is_told_and_not_sent() -> None:
    named = {"a": 5, "b": 6, "own": {"x": 1}, "list": [1], "empty": {}, "nothing": None}
    assert one(NUMBERS, widgets_values=named) == (
        {"a": 5, "b": 6},
        (
            "Node 1 (X), input 'own': the node has no such control; {'x': 1} is not sent.",
            "Node 1 (X), input 'list': the node has no such control; [1] is not sent.",
        ),
    )


def test_a_place_of_the_editors_own_is_no_input_by_name_either() -> None:
    named = {"seed": 5, "control_after_generate": "fixed"}
    assert one({"seed": ["INT"]}, widgets_values=named) == ({"seed": 5}, ())


def test_a_value_of_an_input_that_has_lost_its_control_is_told_where_no_link_takes_its_place() -> None:
    declared = {"a": ["INT"], "forced": ["STRING", {"forceInput": True}], "b": ["INT"]}
    inputs, (warning,) = one(declared, 1, "lost", 2)
    assert inputs == {"a": 1, "b": 2}
    assert warning == (
        "Node 1 (X), input 'forced': it has no control, only a socket; its saved value 'lost' is not sent."
    )
    linked = [{"name": "forced", "type": "STRING", "link": 1}]
    beside = [image(2, 8, 8)]
    sent, warnings = one(
        declared, 1, "lost", 2, inputs=linked, links=[[1, 2, 0, 1, 0, "STRING"]], beside=beside
    )
    assert (sent, warnings) == ({"a": 1, "b": 2, "forced": ["2", 0]}, ())
