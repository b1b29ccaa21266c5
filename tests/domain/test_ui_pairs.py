"""Set and Get nodes of packs that nobody here knows, and those that have a switch."""

from typing import Any

import pytest

from tests.domain.ui_files import CLASSES, converted, handing, image, save

SWITCHED_OFF = "input 'images': it reads what a node sets as 'a', and the node that gets it is switched off"


def pair(
    setter: str, getter: str, *read: Any, name: Any = "a", beside: Any = (), **more: Any
) -> dict[str, Any]:
    """A picture that is set as `name`, got by a node with the values `read`, and saved."""
    got = handing(3, getter, None, *read) | more
    return {
        "nodes": [image(1, 8, 8), handing(2, setter, 1, name), got, save(4, 2), *beside],
        "links": [
            [1, 1, 0, 2, 0, "IMAGE"],
            [2, 3, 0, 4, 0, "IMAGE"],
            *([[3, 9, 0, 3, 0, "BOOLEAN"]] if more else []),
        ],
    }


@pytest.mark.parametrize(
    ("setter", "getter"),
    [
        ("MySetNode", "MyGetNode"),
        ("my_set_node", "my_get_node"),
        ("Set|own", "Get|own"),
        ("X setNode", "X GetNode"),
    ],
)
def test_a_pair_of_unknown_types_is_resolved_with_a_word(setter: str, getter: str) -> None:
    graph, warnings = converted(pair(setter, getter, "a"))
    assert set(graph) == {"1", "4"}
    assert graph["4"]["inputs"]["images"] == ["1", 0]
    assert len(warnings) == 2
    assert all("there is a pair of such nodes" in text and "'a' by its name" in text for text in warnings)


def test_one_that_gets_what_none_sets_is_told() -> None:
    _, warnings = converted(pair("MySetNode", "MyGetNode", "b"))
    assert any("it reads what a node sets as 'b', and no node does" in text for text in warnings)


@pytest.mark.parametrize(("setter", "getter"), [("SetNode", "GetNode"), ("MySetNode", "MyGetNode")])
def test_of_two_that_set_one_name_the_first_counts(setter: str, getter: str) -> None:
    file = pair(setter, getter, "a", beside=[image(8, 9, 9), handing(9, setter, 4, "a")])
    file["links"].append([4, 8, 0, 9, 0, "IMAGE"])
    assert converted(file)[0]["4"]["inputs"]["images"] == ["1", 0]


@pytest.mark.parametrize(
    ("setter", "getter", "name"),
    [
        ("MySetNode", "OtherGetNode", "a"),
        ("MySetNode", "MySetNode", "a"),
        ("ResetMask", "MyGetNode", "a"),
        ("MySetNode", "MyGetNode", 7),
        ("Filter", "Filter2", "a"),
    ],
    ids=["another pack", "two that set", "another word", "no name", "other nodes"],
)
def test_what_is_no_pair_is_left_for_the_check_to_name(setter: str, getter: str, name: Any) -> None:
    graph, _ = converted(pair(setter, getter, "a", name=name))
    assert graph["4"]["inputs"]["images"] == ["3", 0]
    assert graph["3"]["class_type"] == getter


def test_a_class_that_the_engine_has_is_no_node_of_the_editor() -> None:
    known = {"input": {"required": {"IMAGE": ["IMAGE"], "name": ["STRING"]}}, "output": ["IMAGE"]}
    graph, _ = converted(pair("MySetNode", "MyGetNode", "a"), MySetNode=known)
    assert graph["2"]["class_type"] == "MySetNode"
    assert graph["3"]["class_type"] == "MyGetNode"


def test_one_without_a_link_beside_a_pair_stays() -> None:
    graph, _ = converted(pair("MySetNode", "MyGetNode", "a", beside=[handing(5, "MySetNode", None, "c")]))
    assert set(graph) == {"1", "4"}


@pytest.mark.parametrize("kind", ["QQGetNode", "GetNode", "MyGetNode"])
@pytest.mark.parametrize(
    ("values", "on"),
    [
        (["a", True], True),
        ([True, "a"], True),
        (["a", "\u542f\u7528"], True),
        (["a", ""], True),
        (["a", None], True),
        (["a", 0], False),
        (["a", False], False),
        ([False, "a"], False),
        (["a", "\u7ed5\u8fc7"], False),
        (["a", " False "], False),
    ],
)
def test_a_switch_of_one_that_gets_is_kept_to(kind: str, values: list[Any], on: bool) -> None:
    setter = "MySetNode" if kind.startswith("My") else "SetNode"
    graph, warnings = converted(pair(setter, kind, *values))
    assert graph["4"]["inputs"].get("images") == (["1", 0] if on else None)
    assert any(SWITCHED_OFF in text for text in warnings) is not on


@pytest.mark.parametrize(
    ("given", "on"), [(True, True), (False, False), (0, False), ("x", True), (None, True)]
)
def test_a_primitive_sets_the_switch(given: Any, on: bool) -> None:
    primitive = handing(9, "PrimitiveNode", None, given)
    inputs = [{"name": "on", "type": "BOOLEAN", "link": 3}, {"name": "other", "type": "INT", "link": None}]
    file = pair("SetNode", "QQGetNode", "a", beside=[primitive], inputs=inputs)
    assert converted(file)[0]["4"]["inputs"].get("images") == (["1", 0] if on else None)
    elsewhere = pair("SetNode", "QQGetNode", "a", False, beside=[image(9, 8, 8)], inputs=inputs)
    assert "images" not in converted(elsewhere)[0]["4"]["inputs"], (
        "a running value is not known: the node's own"
    )


def test_a_pair_reaches_into_a_subgraph() -> None:
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    inside = {
        "id": "sub",
        "nodes": [handing(3, "MyGetNode", None, "a"), save(4, 1)],
        "links": [dict(zip(ends, (1, 3, 0, 4, 0), strict=True))],
    }
    file = {
        "nodes": [image(1, 8, 8), handing(2, "MySetNode", 1, "a"), {"id": 7, "type": "sub"}],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
        "definitions": {"subgraphs": [inside]},
    }
    graph, _ = converted(file)
    assert graph["7:4"]["inputs"]["images"] == ["1", 0]
    assert set(CLASSES) >= {node["class_type"] for node in graph.values()}
