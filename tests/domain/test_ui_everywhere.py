"""Nodes that link others without a wire."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.api_format import api_format
from comfy_mcp.domain.object_info import ObjectInfo

CLASSES = {
    "Give": {"input": {"required": {}}, "output": ["VAE"]},
    "Text": {"input": {"required": {}}, "output": ["COND"]},
    "Use": {"input": {"required": {"vae": ["VAE"]}, "optional": {"other": ["VAE"]}}, "output": []},
    "Sample": {"input": {"required": {"positive": ["COND"], "negative": ["COND"]}}, "output": []},
}
INFO = ObjectInfo.parse(CLASSES)


def give(number: int, kind: str = "Give", given: str = "VAE", **more: Any) -> dict[str, Any]:
    return {"id": number, "type": kind, "outputs": [{"name": given, "type": given}], **more}


def use(number: int, *inputs: tuple[str, str], kind: str = "Use", **more: Any) -> dict[str, Any]:
    named = inputs or (("vae", "VAE"),)
    sockets = [{"name": name, "type": of, "link": None} for name, of in named]
    return {"id": number, "type": kind, "inputs": sockets, **more}


def everywhere(number: int, *links: int, kind: str = "Anything Everywhere", **more: Any) -> dict[str, Any]:
    names = ("+", "-") if kind == "Prompts Everywhere" else ("anything", "anything2", "anything3")
    sockets = [{"name": names[at], "type": "*", "link": link} for at, link in enumerate(links)]
    return {"id": number, "type": kind, "inputs": sockets, "outputs": [], **more}


def linked(*nodes: dict[str, Any], links: Any = (), **more: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The links of each node, by name."""
    graph, warnings = api_format({"nodes": list(nodes), "links": list(links), **more}, INFO)
    assert isinstance(graph, dict)
    return {key: node["inputs"] for key, node in graph.items()}, warnings


def test_every_free_input_of_the_type_is_linked() -> None:
    nodes = [give(1), everywhere(2, 1), use(3, ("vae", "VAE"), ("other", "VAE")), use(4, ("vae", "X"))]
    graph, warnings = linked(*nodes, links=[[1, 1, 0, 2, 0, "VAE"]])
    assert graph == {"1": {}, "3": {"vae": ["1", 0], "other": ["1", 0]}, "4": {}}
    assert warnings == ()


def test_an_input_that_has_a_link_keeps_it() -> None:
    taken = use(4)
    taken["inputs"][0]["link"] = 2
    links = [[1, 1, 0, 2, 0, "VAE"], [2, 3, 0, 4, 0, "VAE"]]
    graph, _ = linked(give(1), everywhere(2, 1), give(3), taken, links=links)
    assert graph["4"] == {"vae": ["3", 0]}


@pytest.mark.parametrize("mode", [2, 4])
def test_what_is_switched_off_links_nothing(mode: int) -> None:
    nodes = [give(1), everywhere(2, 1, mode=mode), use(3)]
    assert linked(*nodes, links=[[1, 1, 0, 2, 0, "VAE"]])[0]["3"] == {}
    other = [give(1), everywhere(2, 1), use(3, mode=mode), use(4)]
    assert set(linked(*other, links=[[1, 1, 0, 2, 0, "VAE"]])[0]) == {"1", "4"}


def test_a_greater_rank_wins_and_two_of_one_rank_are_told() -> None:
    links = [[1, 1, 0, 3, 0, "VAE"], [2, 2, 0, 4, 0, "VAE"]]
    both = [give(1), give(2), everywhere(3, 1), everywhere(4, 2), use(5)]
    graph, warnings = linked(*both, links=links)
    assert graph["5"] == {}
    assert "several nodes would give input 'vae' a value" in warnings[0]
    both[3] = everywhere(4, 2, kind="Anything Everywhere?", widgets_values=[".*", "vae"])
    assert linked(*both, links=links)[0]["5"] == {"vae": ["2", 0]}


@pytest.mark.parametrize(
    ("values", "reached"),
    [
        (["Mine", ".*"], True),
        (["^Mine one$", ""], True),
        (["one$", "^va"], True),
        (["^one", ""], False),
        (["Mine$", ""], False),
        (["other|Mine", "vae|x"], True),
        (["", "other"], False),
        (None, True),
    ],
)
def test_a_pattern_of_plain_text_is_matched(values: Any, reached: bool) -> None:
    sender = everywhere(2, 1, kind="Anything Everywhere?", widgets_values=values)
    graph, warnings = linked(give(1), sender, use(3, title="Mine one"), links=[[1, 1, 0, 2, 0, "VAE"]])
    assert graph["3"] == ({"vae": ["1", 0]} if reached else {})
    assert warnings == ()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"kind": "Anything Everywhere?", "widgets_values": ["(a+)+$", ".*"]}, "not plain text"),
        ({"kind": "Anything Everywhere?", "widgets_values": ["", "", "[x]"]}, "not plain text"),
        ({"properties": {"group_restricted": True}}, "its group or colour"),
    ],
)
def test_what_is_not_resolved_is_told(more: dict[str, Any], said: str) -> None:
    graph, warnings = linked(give(1), everywhere(2, 1, **more), use(3), links=[[1, 1, 0, 2, 0, "VAE"]])
    assert graph["3"] == {}
    assert said in warnings[0]


def test_prompts_go_to_the_side_that_they_are_for() -> None:
    nodes = [
        give(1, "Text", "COND"),
        give(2, "Text", "COND"),
        everywhere(3, 1, 2, kind="Prompts Everywhere"),
        use(4, ("positive", "COND"), ("negative", "COND"), ("third", "COND"), kind="Sample"),
    ]
    graph, _ = linked(*nodes, links=[[1, 1, 0, 3, 0, "COND"], [2, 2, 0, 3, 1, "COND"]])
    assert graph["4"] == {"positive": ["1", 0], "negative": ["2", 0]}


def test_the_type_is_found_through_reroutes() -> None:
    reroute = {"id": 2, "type": "Reroute", "inputs": [{"name": "", "type": "*", "link": 1}],
               "outputs": [{"name": "", "type": "*"}]}  # fmt: skip
    links = [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 3, 0, "*"]]
    assert linked(give(1), reroute, everywhere(3, 2), use(4), links=links)[0]["4"] == {"vae": ["1", 0]}
    loop = [[1, 2, 0, 2, 0, "*"], [2, 2, 0, 3, 0, "*"]]
    assert linked(give(1), reroute, everywhere(3, 2), use(4), links=loop)[0]["4"] == {}
    nowhere = [[2, 77, 0, 3, 0, "*"]]
    assert linked(give(1), everywhere(3, 2), use(4), links=nowhere)[0]["4"] == {}
    no_slot = [[2, 1, 5, 3, 0, "*"]]
    assert linked(give(1), everywhere(3, 2), use(4), links=no_slot)[0]["4"] == {}


def test_links_that_the_file_knows_count() -> None:
    known = {"downstream": 4, "downstream_slot": 0, "upstream": "3", "upstream_slot": 0}
    extra = {"ue_links": [known, {"downstream": 5}, 3]}
    nodes = [give(1), everywhere(2, 1), give(3), use(4), use(5)]
    graph, _ = linked(*nodes, links=[[1, 1, 0, 2, 0, "VAE"]], extra=extra)
    assert graph["4"] == {"vae": ["3", 0]}
    assert graph["5"] == {}


def wire(origin: int, target: int, slot: int = 0) -> dict[str, Any]:
    return {"upstream": str(origin), "upstream_slot": 0, "downstream": target, "downstream_slot": slot}


def test_an_input_is_free_whose_link_leads_to_nothing() -> None:
    """Older versions of the pack save links that they remove again, or that are behind bypassed nodes."""
    off = use(3, ("in", "VAE"), mode=4, outputs=[{"name": "VAE", "type": "VAE"}])
    loop = use(5, mode=4, outputs=[{"name": "VAE", "type": "VAE"}])
    users = [use(number) for number in (6, 7, 8, 9)]
    for user, link in zip(users, (77, 2, 3, 4), strict=True):
        user["inputs"][0]["link"] = link
    loop["inputs"][0]["link"] = 5
    links = [
        [number, origin, 0, target, 0, "VAE"]
        for number, origin, target in ((1, 1, 2), (2, 3, 7), (3, 5, 8), (4, 4, 9), (5, 5, 5))
    ]
    nodes = [give(1), everywhere(2, 1), off, give(4), loop, *users]
    for extra in ({}, {"ue_links": [wire(1, number) for number in (6, 7, 8, 9)]}):
        graph, warnings = linked(*nodes, links=links, extra=extra)
        assert [graph[key]["vae"] for key in "6789"] == [["1", 0]] * 3 + [["4", 0]]
        assert warnings == ()


def test_what_a_file_says_is_all_there_is() -> None:
    nodes = [give(1), everywhere(2, 1), use(3), use(4)]
    graph, warnings = linked(
        *nodes, links=[[1, 1, 0, 2, 0, "VAE"]], extra={"ue_links": [wire(9, 3), wire(9, 99)]}
    )
    assert graph["3"] == graph["4"] == {}
    assert warnings == ("Node 3 (Use): a link without a wire comes from node 9, which does not exist.",)
    assert linked(*nodes, links=[[1, 1, 0, 2, 0, "VAE"]], extra={"ue_links": []})[1] == ()


@pytest.mark.parametrize("more", [{"kind": "Seed Everywhere"}, {"properties": {"ue_convert": True}}])
def test_any_node_may_broadcast_and_is_told_where_the_file_does_not_say_to_whom(more: Any) -> None:
    nodes = [give(1, **more), use(3)]
    assert linked(*nodes, extra={"ue_links": [wire(1, 3)]})[0]["3"] == {"vae": ["1", 0]}
    graph, warnings = linked(*nodes)
    assert graph["3"] == {}
    assert "does not say which inputs it reaches" in warnings[0]


def test_a_subgraphs_own_inputs_and_outputs_may_be_the_ends() -> None:
    inside = {
        "id": "s",
        "inputs": [{"name": "v", "type": "VAE"}],
        "nodes": [give(11, properties={"ue_convert": True}), use(12)],
        "extra": {"ue_links": [wire(-10, 12), wire(11, -20), wire(11, -20, 1)]},
        "links": [{"id": 9, "origin_id": 11, "origin_slot": 0, "target_id": -20, "target_slot": 1}],
    }
    host = {**use(8, ("v", "VAE")), "type": "s", "outputs": [{"type": "VAE"}, {"type": "VAE"}]}
    host["inputs"][0]["link"] = 1
    user = use(4)
    user["inputs"][0]["link"] = 2
    links = [[1, 1, 0, 8, 0, "VAE"], [2, 8, 0, 4, 0, "VAE"]]
    graph, _ = linked(give(1), host, user, links=links, definitions={"subgraphs": [inside]})
    assert graph["8:12"] == {"vae": ["1", 0]}
    assert graph["4"] == {"vae": ["8:11", 0]}


def test_inside_a_subgraph_they_link_what_is_inside() -> None:
    links = [{"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0}]
    known = {"upstream": 1, "upstream_slot": 0, "downstream": 3, "downstream_slot": 0}
    inside: dict[str, Any] = {"id": "s", "nodes": [give(1), everywhere(2, 1), use(3)], "links": links}
    inside["extra"] = {"ue_links": [known]}
    nodes = [use(3), {"id": 8, "type": "s"}]
    graph, _ = linked(*nodes, definitions={"subgraphs": [inside]}, last_node_id=8)
    assert graph["3"] == {}
    renamed = next(key for key, inputs in graph.items() if key.startswith("8:") and inputs)
    assert graph[renamed] == {"vae": ["8:1", 0]}


@given(st.lists(st.text(max_size=30), max_size=4))
def test_no_pattern_makes_it_fail(patterns: list[str]) -> None:
    sender = everywhere(2, 1, kind="Anything Everywhere?", widgets_values=patterns)
    graph, _ = linked(give(1), sender, use(3), links=[[1, 1, 0, 2, 0, "VAE"]])
    assert graph["3"] in ({}, {"vae": ["1", 0]})
