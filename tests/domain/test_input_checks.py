"""A quick look passes the inputs that are surely good; the whole check decides on the others."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from comfy_mcp.domain import graph_checks, input_checks
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.graph_checks import GraphReport, check_graph
from comfy_mcp.domain.object_info import ObjectInfo
from tests.domain.judged_graphs import DATA, INFO

DECLARED: list[list[Any]] = [
    *(["INT", bounds] for bounds in ({}, {"min": 0}, {"max": 2**53 + 3}, {"min": -1, "max": 12.5})),
    *(["FLOAT", bounds] for bounds in ({}, {"min": 0.5, "max": 2**53 + 3}, {"min": 12})),
    *([kind, {"image_upload": True}] for kind in ("INT", "FLOAT", "BOOLEAN", "STRING", "COMBO")),
    *([kind, {"multiselect": True, "options": ["a", 5]}] for kind in ("COMBO", "INT", "STRING")),
    *([kind] for kind in ("BOOLEAN", "STRING", "COMBO", "MODEL", "A,B", "*", "X", "COMFY_MATCHTYPE_V3")),
    ["BOOLEAN", {"min": 1, "max": 1}],
    [["a", "12", True, 5]],
    [[*map(str, range(99))]],
    [["a"], {"image_upload": True}],
    [{}],
    ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "a", "inputs": {"required": {"b": ["INT"]}}}]}],
]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, 5, -1, 12, 13, 2**53, 2**53 + 1, 2**53 + 3, -(10**30), 10**400),
    *(0.0, 0.5, 12.7, -1.5, 1e308, float("inf"), float("-inf"), float("nan")),
    *("", "a", "12", "12.7", "98", "x.png [output]", "sub/x.png", "https://a.example/x.png"),
    *(
        [],
        {},
        ["giver"],
        ["giver", 0],
        ["giver", 1],
        ["giver", 2],
        ["giver", 3],
        ["giver", -1],
        ["giver", -9],
    ),
    *(["giver", True], ["giver", "0"], [5, 0], ["nowhere", 0], ["strange", 0], ["x", 0], ["giver", 10**30]),
    *({"__value__": [1]}, {"__value__": 5}, {"__value__": "a"}, {"a": 1}, ("giver", 0)),
]
GIVER = {"input": {}, "output": ["MODEL", "A", ["X"]], "python_module": "nodes"}
STRANGE = {"input": {}, "output": 5}


def graphs() -> Iterator[tuple[Mapping[str, Any], ObjectInfo]]:
    """Every kind of declaration with every kind of value; and graphs of which an engine gave its verdict."""
    others = {
        "giver": {"class_type": "Giver", "inputs": {}},
        "strange": {"class_type": "Strange", "inputs": {}},
    }
    for section, module in (("required", "nodes"), ("optional", "custom_nodes.x")):
        for declared in DECLARED:
            taker = {"input": {section: {"x": declared}}, "output_node": True, "python_module": module}
            info = ObjectInfo.parse({"Taker": taker, "Giver": GIVER, "Strange": STRANGE})
            for value in VALUES:
                yield {"x": {"class_type": "Taker", "inputs": {"x": value}}, **others}, info
    for line in (DATA / "validation_verdicts.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)["prompt"], INFO


def reports() -> list[GraphReport]:
    return [check_graph(parse_graph(graph), info) for graph, info in graphs()]


def test_what_is_told_quickly_is_what_the_whole_check_says(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = reports()
    monkeypatch.setattr(input_checks, "_fits", lambda *_: False)
    monkeypatch.setattr(graph_checks, "_has_loop", lambda _: True)
    assert quick == reports()


def test_good_inputs_do_not_take_the_whole_check(monkeypatch: pytest.MonkeyPatch) -> None:
    good: dict[str, tuple[list[Any], Any]] = {"a": (["INT", {"min": 1}], 5)}
    good |= {"b": (["FLOAT"], 7), "c": (["FLOAT", {"max": 1}], 0.5)}
    good |= {"d": (["BOOLEAN"], True), "e": (["STRING"], "text"), "f": ([["x", "y"]], "y"), "g": (["X"], "z")}
    good |= {"h": (["MODEL"], ["giver", 0]), "i": (["A"], ["giver", 1])}
    declared = {name: declaration for name, (declaration, _) in good.items()}
    taker = {"input": {"required": declared}, "output_node": True}
    graph = {
        "1": {"class_type": "Taker", "inputs": {name: value for name, (_, value) in good.items()}},
        "giver": {"class_type": "Giver", "inputs": {}},
    }
    monkeypatch.delattr(input_checks, "_check_input")
    report = check_graph(parse_graph(graph), ObjectInfo.parse({"Taker": taker, "Giver": GIVER}))
    assert report.outputs == ("1",)


@pytest.mark.parametrize("given", [{}, {"x.a": 1}, {"xa": 1}])
def test_an_input_that_can_not_be_read_is_missing_unless_it_may_have_grown_others(
    given: dict[str, Any],
) -> None:
    taker = {"input": {"required": {"x": ["COMFY_NEW_V9"]}}, "output_node": True}
    graph = parse_graph({"1": {"class_type": "Taker", "inputs": given}})
    report = check_graph(graph, ObjectInfo.parse({"Taker": taker}))
    assert [each.kind for each in report.doubts] == ([] if "x.a" in given else ["required_input_missing"])
