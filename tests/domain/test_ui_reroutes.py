"""Reroutes of packs that nobody here knows, and classes that are none."""

from typing import Any

import pytest

from comfy_mcp.domain.errors import InvalidGraph
from tests.domain.ui_files import converted, image, save


def between(kind: str = "mxReroute", name: str = "", **more: Any) -> dict[str, Any]:
    """A picture, a node of an unknown class, and what saves it."""
    unknown = {
        "id": 2,
        "type": kind,
        "inputs": [{"name": name, "type": "*", "link": 1}],
        "outputs": [{"name": "", "type": "IMAGE", "links": [2]}],
    }
    links = [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]]
    return {"nodes": [image(1, 8, 8), unknown | more, save(3, 2)], "links": links}


def two(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "", "type": "IMAGE", "link": 1}, {"name": "", "type": "IMAGE", "link": None} | more]


@pytest.mark.parametrize(
    "file",
    [
        between(),
        between(name="*"),
        between("AE.Reroute", "in"),
        between("ReroutePrimitive|pysssss", "value"),
        between(widgets_values=[]),
        between(widgets_values=[None, ""]),
        between(inputs=[{"name": " ", "type": "IMAGE", "link": 1}]),
        between(mode=4),
    ],
)
def test_an_unknown_reroute_hands_on_what_it_is_given_and_is_named(file: dict[str, Any]) -> None:
    graph, warnings = converted(file)
    assert set(graph) == {"1", "3"}
    assert graph["3"]["inputs"]["images"] == ["1", 0]
    (warning,) = warnings
    assert warning.startswith(f"Node 2 (Reroute): this engine has no class {file['nodes'][1]['type']!r}")


@pytest.mark.parametrize(
    "file",
    [
        between("Sharpen", "image"),
        between("Sharpen", "images", inputs=[{"name": "image", "type": "IMAGE", "link": 1}]),
        between("Sharpen", "anything"),
        between(widgets_values=[0.5]),
        between(widgets_values={"a": 1}),
        between(widgets_values="x"),
        between(widgets_values_named={"a": 1}),
        between(inputs=two()),
        between(outputs=[{"type": "IMAGE"}, {"type": "MASK"}]),
        between(outputs=[]),
        between(inputs=[{"name": "", "type": "MASK", "link": 1}]),
        between(inputs=[{"name": "", "type": "INT", "link": 1, "widget": {"name": "a"}}]),
    ],
)
def test_what_may_be_more_than_a_reroute_is_no_reroute(file: dict[str, Any]) -> None:
    """It stays in the graph, and the check names its class: a picture without a filter is another one."""
    graph, _ = converted(file)
    assert graph["2"]["class_type"] == file["nodes"][1]["type"]
    assert graph["3"]["inputs"]["images"] == ["2", 0]


def test_a_class_that_the_engine_has_is_asked_whatever_its_name() -> None:
    known = {"input": {"required": {"": ["IMAGE"]}}, "output": ["IMAGE"]}
    graph, warnings = converted(between("My Reroute"), **{"My Reroute": known})
    assert graph["3"]["inputs"]["images"] == ["2", 0]
    assert warnings == ()


def test_a_ring_of_unknown_reroutes_is_refused_and_one_inside_a_subgraph_is_resolved() -> None:
    file = between()
    file["links"] = [[1, 2, 0, 2, 0, "IMAGE"], file["links"][1]]
    with pytest.raises(InvalidGraph, match="in a ring"):
        converted(file)
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    inside = between()
    links = [(1, -10, 0, 2, 0), (2, 2, 0, -20, 0)]
    definition = {
        "id": "sub",
        "inputs": [{"name": "image"}],
        "nodes": [inside["nodes"][1]],
        "links": [dict(zip(ends, link, strict=True)) for link in links],
    }
    user = {"id": 5, "type": "sub", "inputs": [{"name": "image", "type": "IMAGE", "link": 1}]}
    top: dict[str, Any] = {
        "nodes": [image(1, 8, 8), user, save(3, 2)],
        "definitions": {"subgraphs": [definition]},
    }
    top["links"] = [[1, 1, 0, 5, 0, "IMAGE"], [2, 5, 0, 3, 0, "IMAGE"]]
    graph, warnings = converted(top)
    assert graph["3"]["inputs"]["images"] == ["1", 0]
    assert warnings[0].startswith(
        "Node 5:2 (Reroute in subgraph 'sub'): this engine has no class 'mxReroute'"
    )
