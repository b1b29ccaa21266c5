"""Property: whatever a file has for saved values, the answer is a graph or an error by node, and a value that
moved to another place is never sent without a word."""

from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.errors import InvalidGraph
from comfy_mcp.domain.judging import judge
from comfy_mcp.domain.object_info import ObjectInfo
from tests.domain.ui_files import CLASSES

KINDS = {
    "count": ["INT", {"default": 1}],
    "seed": ["INT", {"default": 0}],
    "words": ["STRING", {"multiline": True}],
    "choice": [["p", "q"], {}],
    "flag": ["BOOLEAN", {"default": False}],
}
GROWING = {
    "kind": [
        "COMFY_DYNAMICCOMBO_V3",
        {"options": [{"key": "k", "inputs": {"required": {"deep": ["FLOAT", {}]}}}]},
    ]
}
X = {"input": {"required": KINDS, "optional": {"more": ["FLOAT", {}]}}, "output": [], "output_node": True}
Y = {"input": {"required": {**GROWING, **KINDS}}, "output": ["IMAGE"], "output_node": True}
INFO = ObjectInfo.parse({**CLASSES, "X": X, "Y": Y})
VALUES = [5, 7, "fixed", "a fox", "q", True, 0.5]
"""Of a node of class X, with the place behind its seed."""
NAMED = {"count": 5, "seed": 7, "words": "a fox", "choice": "q", "flag": True, "more": 0.5}

SIMPLE = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "fixed", "k", "x", "p"])
)
JUNK = st.recursive(
    SIMPLE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["count", "seed", "lora", "__value__", "name"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def answered(values: object, **more: Any) -> tuple[dict[str, Any], list[str]] | None:
    """What is sent and what is said; None: it is refused."""
    node = {"id": 1, "type": "X", "widgets_values": values, **more}
    try:
        judged = judge({"nodes": [node], "links": []}, INFO)
    except InvalidGraph:
        return None
    if judged.error() is not None:
        return None
    return dict(judged.graph.raw["1"]["inputs"]), [*judged.warnings, *judged.report.warnings]


def test_the_list_as_it_should_be_needs_no_word() -> None:
    assert answered(VALUES) == (NAMED, [])


@given(at=st.integers(0, len(VALUES)), junk=JUNK)
def test_one_value_too_many_shifts_none_in_silence(at: int, junk: object) -> None:
    found = answered([*VALUES[:at], junk, *VALUES[at:]])
    assert found is None or found[0] == NAMED or found[1], found


@given(at=st.integers(0, len(VALUES) - 2))
def test_one_value_too_few_shifts_none_in_silence(at: int) -> None:
    found = answered([*VALUES[:at], *VALUES[at + 1 :]])
    assert found is None or found[0] == NAMED or found[1], found


@given(at=st.integers(0, len(VALUES) - 1), junk=JUNK)
def test_a_wrong_value_stays_in_its_place(at: int, junk: object) -> None:
    found = answered([*VALUES[:at], junk, *VALUES[at + 1 :]])
    place = ["count", "seed", None, "words", "choice", "flag", "more"][at]
    if found is not None:
        sent, said = found
        others = {name: value for name, value in NAMED.items() if name != place}
        assert said or {name: sent[name] for name in others} == others


@given(values=JUNK, named=JUNK, properties=JUNK, inputs=JUNK)
def test_junk_is_answered(values: object, named: object, properties: object, inputs: object) -> None:
    more = {"widgets_values_named": named, "properties": {"proxyWidgets": properties}}
    for kind in ("X", "Y", "EmptyImage", "PrimitiveNode", "SetNode", "Power Lora Loader (rgthree)"):
        answered(values, **more, type=kind, inputs=inputs)


@given(values=JUNK, group=JUNK, inputs=JUNK)
def test_junk_of_subgraphs_and_group_nodes_is_answered(values: object, group: object, inputs: object) -> None:
    node = {"id": 7, "type": "Y", "widgets_values": values, "inputs": inputs, "outputs": inputs}
    users = [
        {"id": at, "type": kind, "widgets_values": values} for at, kind in enumerate(("s", "workflow>G"))
    ]
    inside = {"nodes": [node], "links": inputs, "external": group, "config": group}
    subgraph = {"id": "s", "nodes": [node], "inputs": inputs, "links": inputs, "widgets": group}
    for groups in (group, {"G": group}, {"G": inside}):
        file = {
            "nodes": users,
            "links": [[1, 0, 0, 1, 0, "*"]],
            "definitions": {"subgraphs": [subgraph]},
            "extra": {"groupNodes": groups},
        }
        with suppress(InvalidGraph):
            judge(file, INFO)
