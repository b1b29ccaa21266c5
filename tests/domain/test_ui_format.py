"""Files that contradict themselves: edited by hand, or written by a program."""

from typing import Any

import pytest

from tests.domain.ui_files import converted, image, save


def wired(*links: list[Any], inputs: Any, listed: Any, **more: Any) -> tuple[Any, tuple[str, ...]]:
    """What node 3 takes its two inputs from; `listed` are the links that the output of node 1 names."""
    sockets = [{"name": name, "type": "IMAGE", "link": link} for name, link in inputs.items()]
    given = image(1, 8, 8, outputs=[{"name": "IMAGE", "type": "IMAGE", "links": listed}])
    file = {"nodes": [given, {"id": 3, "type": "Two", "inputs": sockets, **more}], "links": list(links)}
    graph, warnings = converted(
        file, Two={"input": {"required": {"a": ["IMAGE"], "b": ["IMAGE"]}}, "output": []}
    )
    return graph["3"]["inputs"], warnings


A, B, BEYOND = ([7, 1, 0, 3, slot, "IMAGE"] for slot in (0, 1, 5))


@pytest.mark.parametrize(
    ("link", "inputs", "listed", "taken", "said"),
    [
        (A, {"a": 7, "b": None}, [7], ["a"], ""),
        (A, {"a": 7, "b": None}, None, ["a"], ""),
        (A, {"a": None, "b": None}, [7], ["a"], ""),
        (A, {"a": None, "b": None}, None, [], ""),
        (A, {"a": 99, "b": None}, [7], ["a"], ""),
        (A, {"a": 99, "b": 98}, [], [], ""),
        (B, {"a": 7, "b": None}, [7], ["b"], "'a': its link leads to another input"),
        (B, {"a": 7, "b": 7}, [7], ["b"], "'a': its link leads to another input"),
        (BEYOND, {"a": 7, "b": None}, [7], [], "a link leads to its input 5, which the file does not list"),
    ],
)
def test_the_list_of_links_says_what_leads_where(
    link: list[Any], inputs: Any, listed: Any, taken: list[str], said: str
) -> None:
    found, warnings = wired(link, inputs=inputs, listed=listed)
    assert found == {name: ["1", 0] for name in taken}
    assert said in " ".join(warnings)
    assert bool(warnings) is bool(said)


def test_of_two_links_to_one_input_the_one_that_it_names_counts() -> None:
    other = [8, 1, 1, 3, 0, "IMAGE"]
    assert wired(A, other, inputs={"a": 7}, listed=[7, 8])[0]["a"] == ["1", 0]
    assert wired(A, other, inputs={"a": 8}, listed=[7, 8])[0]["a"] == ["1", 1]


def test_inside_a_subgraph_no_output_needs_to_name_a_link() -> None:
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    inside: dict[str, Any] = {"id": "sub", "nodes": [image(1, 8, 8), save(2, 1)]}
    inside["nodes"][1]["inputs"][0]["link"] = None
    inside["links"] = [dict(zip(ends, (1, 1, 0, 2, 0), strict=True))]
    graph, _ = converted({"nodes": [{"id": 9, "type": "sub"}], "definitions": {"subgraphs": [inside]}})
    assert graph["9:2"]["inputs"]["images"] == ["9:1", 0]


def test_of_two_nodes_with_one_id_the_second_gets_a_new_one() -> None:
    nodes = [image(1, 8, 8), image(1, 9, 9), save(2, 1), image(2, 7, 7)]
    file = {"nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"]], "last_node_id": 20}
    graph, _ = converted(file)
    assert {key: node["inputs"].get("width") for key, node in graph.items()} == {
        "1": 8,
        "21": 9,
        "2": None,
        "22": 7,
    }
    assert graph["2"]["inputs"]["images"] == ["1", 0]
