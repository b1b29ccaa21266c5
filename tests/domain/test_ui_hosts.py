"""Values that the node of a subgraph keeps for the controls that it shows."""

from typing import Any

from tests.domain.ui_files import converted, image


def hosting(
    inside: list[dict[str, Any]], *values: Any, links: Any = (), inputs: Any = ("w",), **host: Any
) -> Any:
    """Node 3 is a subgraph with inputs `inputs` around nodes `inside`."""
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    definition = {
        "id": "sub",
        "inputs": [{"name": name} for name in inputs],
        "nodes": inside,
        "links": [dict(zip(ends, link, strict=True)) for link in links],
    }
    user = {"id": 3, "type": "sub", "widgets_values": list(values), **host}
    return {"nodes": [user], "definitions": {"subgraphs": [definition]}}


WIDTH = [{"name": "width", "type": "INT", "link": 1, "widget": {"name": "width"}}]


def test_values_of_a_subgraph_by_name_where_it_has_changed() -> None:
    file = hosting(
        [image(7, 8, 9, inputs=WIDTH)],
        *("old", 100),
        links=[(1, -10, 0, 7, 0)],
        widgets_values_named={"gone": "old", "w": 100},
    )
    graph, warnings = converted(file)
    assert graph["3:7"]["inputs"]["width"] == 100
    assert "100 by its name, 'old' by its place in the list" in warnings[0]
    assert "input 'gone': no control inside" in warnings[1]
    file["nodes"][0]["widgets_values_named"] = {"other": None}
    assert converted(file)[0]["3:7"]["inputs"]["width"] == "old"
    file["nodes"][0].pop("widgets_values_named")
    graph, warnings = converted(file)
    assert graph["3:7"]["inputs"]["width"] == "old"
    assert "shows no control for 1 of its saved values" in warnings[0]


def test_links_of_a_subgraph_that_lead_nowhere_are_no_controls() -> None:
    file = hosting(
        [image(7, 8, 9, inputs=WIDTH), {"id": 8, "type": "Unheard", "inputs": WIDTH}],
        *(1, 2),
        links=[(1, -10, 3, 7, 0), (2, -10, 0, 99, 0), (3, -10, 1, 7, 5), (4, -10, 2, 8, 0)],
        inputs=("nowhere", "beyond", "unheard", "w"),
    )
    graph, _ = converted(file)
    assert graph["3:7"]["inputs"]["width"] == 2, "the control of an unknown class is taken at its word"


def test_a_control_for_two_without_any_value_leaves_each_its_own() -> None:
    sockets = [{"name": "kind", "type": "COMBO", "link": 1, "widget": {"name": "kind"}}]
    nodes = [{"id": 7, "type": "Unheard", "inputs": sockets}, image(8, 8, 9, inputs=WIDTH)]
    graph, _ = converted(hosting(nodes, links=[(1, -10, 0, 7, 0), (2, -10, 0, 8, 0)]))
    assert graph["3:7"]["inputs"] == {}
    assert graph["3:8"]["inputs"]["width"] == 8
    lost = hosting([image(8, 8, 9, inputs=WIDTH)], links=[(1, -10, 0, 98, 0), (2, -10, 0, 99, 0)])
    assert converted(lost)[0]["3:8"]["inputs"]["width"] == 8


def test_a_control_for_two_takes_the_value_of_a_subgraph_inside() -> None:
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    deep = {"id": "deep", "inputs": [{"name": "w"}], "nodes": [image(20, 8, 9, inputs=WIDTH)]}
    deep["links"] = [dict(zip(ends, (1, -10, 0, 20, 0), strict=True))]
    user = {"id": 7, "type": "deep", "widgets_values": [50], "inputs": [{**WIDTH[0], "name": "w"}]}
    file = hosting(
        [user, image(8, 8, 9, inputs=[{**WIDTH[0], "link": 2}])], links=[(1, -10, 0, 7, 0), (2, -10, 0, 8, 0)]
    )
    file["definitions"]["subgraphs"].append(deep)
    graph, _ = converted(file)
    assert graph["3:7:20"]["inputs"]["width"] == graph["3:8"]["inputs"]["width"] == 50


def test_null_on_a_subgraphs_node_is_the_first_of_a_list_and_of_no_text_another() -> None:
    required = {"kind": [["a", "b"], {"default": "b"}], "text": ["STRING", {"multiline": True}]}
    sockets = [
        {"name": name, "type": "X", "link": link, "widget": {"name": name}}
        for link, name in enumerate(required, start=1)
    ]
    inside = [{"id": 7, "type": "Kind", "inputs": sockets, "widgets_values": ["b", "t"]}]
    links = [(1, -10, 0, 7, 0), (2, -10, 1, 7, 1)]
    file = hosting(inside, None, None, links=links, inputs=("kind", "text"))
    graph, _ = converted(file, Kind={"input": {"required": required}, "output": []})
    assert graph["3:7"]["inputs"] == {"kind": "a", "text": None}
