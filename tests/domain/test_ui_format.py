"""Files that contradict themselves: edited by hand, or written by a program."""

from typing import Any

import pytest

from tests.domain.ui_files import converted, image, save


def wired(*links: list[Any], inputs: dict[str, int | None]) -> tuple[Any, tuple[str, ...]]:
    """What node 3 takes its two inputs from."""
    sockets = [{"name": name, "type": "IMAGE", "link": link} for name, link in inputs.items()]
    file = {"nodes": [image(1, 8, 8), {"id": 3, "type": "Two", "inputs": sockets}], "links": list(links)}
    two = {"input": {"required": {"a": ["IMAGE"], "b": ["IMAGE"]}}, "output": []}
    graph, warnings = converted(file, Two=two)
    return graph["3"]["inputs"], warnings


A, BEYOND, ELSEWHERE = ([7, 1, 0, target, slot, "IMAGE"] for target, slot in ((3, 0), (3, 5), (1, 0)))


@pytest.mark.parametrize(
    ("link", "inputs", "taken", "said"),
    [
        (A, {"a": 7, "b": None}, ["a"], ""),
        (A, {"a": None, "b": None}, ["a"], "'a': it names no link, and the file's list of links has one"),
        (A, {"a": 99, "b": None}, ["a"], "'a': it names no link, and the file's list of links has one"),
        (A, {"a": None, "b": 7}, ["b"], ""),
        (A, {"a": 7, "b": 7}, ["a"], "'b': its link leads to another input"),
        (BEYOND, {"a": 7, "b": None}, ["a"], ""),
        (BEYOND, {"a": None, "b": None}, [], "a link leads to its input 5, which the file does not list"),
        (ELSEWHERE, {"a": 7, "b": None}, [], "'a': its link leads to another input"),
    ],
)
def test_the_links_of_a_file_that_contradicts_itself(
    link: list[Any], inputs: Any, taken: list[str], said: str
) -> None:
    found, warnings = wired(link, inputs=inputs)
    assert found == {name: ["1", 0] for name in taken}
    assert said in " ".join(warnings)
    assert bool(warnings) is bool(said)


def test_of_two_links_to_one_input_the_one_that_it_names_counts() -> None:
    other = [8, 1, 1, 3, 0, "IMAGE"]
    assert wired(A, other, inputs={"a": 7})[0]["a"] == ["1", 0]
    assert wired(A, other, inputs={"a": 8})[0]["a"] == ["1", 1]


def test_shuffled_inputs_keep_the_links_that_they_name() -> None:
    first, second = [7, 1, 0, 3, 0, "IMAGE"], [8, 1, 1, 3, 1, "IMAGE"]
    assert wired(first, second, inputs={"b": 8, "a": 7})[0] == {"b": ["1", 1], "a": ["1", 0]}


def test_inside_a_subgraph_an_input_is_given_the_link_that_leads_to_it() -> None:
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    inside: dict[str, Any] = {"id": "sub", "nodes": [image(1, 8, 8), save(2, 1)]}
    inside["nodes"][1]["inputs"][0]["link"] = None
    inside["links"] = [dict(zip(ends, (1, 1, 0, 2, 0), strict=True))]
    graph, _ = converted({"nodes": [{"id": 9, "type": "sub"}], "definitions": {"subgraphs": [inside]}})
    assert graph["9:2"]["inputs"]["images"] == ["9:1", 0]


@pytest.mark.parametrize("last", [{"last_node_id": 20}, {"state": {"lastNodeId": 20}, "last_node_id": "x"}])
def test_of_two_nodes_with_one_id_the_second_gets_a_new_one(last: dict[str, Any]) -> None:
    nodes = [image(1, 8, 8), image(1, 9, 9), save(2, 1), image(2, 7, 7)]
    file = {"nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"]], **last}
    graph, _ = converted(file)
    assert {key: node["inputs"].get("width") for key, node in graph.items()} == {
        "1": 8,
        "21": 9,
        "2": None,
        "22": 7,
    }
    assert graph["2"]["inputs"]["images"] == ["1", 0]


def test_a_second_link_to_an_input_is_told() -> None:
    found, warnings = wired(A, [8, 1, 1, 3, 0, "IMAGE"], inputs={"a": 7})
    assert found == {"a": ["1", 0]}
    assert len(warnings) == 1
    assert "input 'a': the file's list of links has a second link that leads to it" in warnings[0]


@pytest.mark.parametrize(
    ("version", "as_objects", "told"),
    [(0.4, True, True), (1, False, True), (0.4, False, False), (1, True, False)],
)
def test_a_link_that_the_editor_does_not_read_is_sent_and_told(
    version: float, as_objects: bool, told: bool
) -> None:
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    link: Any = [7, 1, 0, 2, 0, "IMAGE"]
    links = [dict(zip(ends, link, strict=True)) if as_objects else link]
    graph, warnings = converted({"version": version, "nodes": [image(1, 8, 8), save(2, 7)], "links": links})
    assert graph["2"]["inputs"]["images"] == ["1", 0]
    assert bool(warnings) is told
    assert all("ComfyUI's editor loses it; it is sent" in each for each in warnings)


def test_what_is_odd_about_a_node_that_is_not_sent_is_told() -> None:
    """A bypassed node, and one of the editor's own."""
    odd = {"id": 5, "type": "Reroute", "outputs": [{"name": "", "type": "IMAGE"}]}
    off = {"id": 6, "type": "Off", "mode": 4, "outputs": [{"name": "", "type": "IMAGE"}]}
    links = [[7, 1, 0, 5, 0, "IMAGE"], [8, 1, 0, 6, 9, "IMAGE"]]
    _, warnings = converted({"nodes": [image(1, 8, 8), odd, off], "links": links})
    assert [each.partition(":")[0] for each in warnings] == ["Node 6 (Off)", "Node 5 (Reroute)"]


def test_a_bypassed_node_hands_through_by_the_inputs_of_its_class() -> None:
    """An input without a socket is none of them; a type that is not known is the file's."""
    any_type = ["COMFY_MATCHTYPE_V3", {"template": {"template_id": "t", "allowed_types": "*"}}]
    declared = {
        "required": {"size": ["INT", {"socketless": True}], "a": any_type, "b": ["IMAGE"]},
        "optional": {"c": [{"odd": 1}]},
    }
    kind = {"input": declared, "output": ["IMAGE", "IMAGE"]}
    sockets = [{"name": name, "type": "IMAGE", "link": link} for name, link in (("b", 7), ("a", 8))]
    outputs = [{"name": "", "type": "IMAGE"}] * 2
    off = {"id": 3, "type": "Off", "mode": 4, "inputs": sockets, "outputs": outputs}
    links = [[7, 1, 0, 3, 0, "IMAGE"], [8, 2, 0, 3, 1, "IMAGE"], [9, 3, 0, 4, 0, "IMAGE"]]
    links.append([10, 3, 1, 5, 0, "IMAGE"])
    nodes = [image(1, 8, 8), image(2, 9, 9), off, save(4, 9), save(5, 10)]
    graph, _ = converted({"nodes": nodes, "links": links}, Off=kind)
    assert [graph[key]["inputs"]["images"] for key in "45"] == [["2", 0], ["1", 0]]
