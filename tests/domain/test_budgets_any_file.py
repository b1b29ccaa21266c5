"""Whatever a file holds, the work on it has a bound: files that hypothesis makes."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.domain.test_budgets import AT_ONCE, PER_BYTE, Workflow, computed, steps_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


CLASSES = (
    "KSampler",
    "SaveImage",
    "CLIPTextEncode",
    "Reroute",
    "PrimitiveNode",
    "CustomCombo",
    "s0",
    "s1",
    "s2",
)


SOCKETS = st.fixed_dictionaries(
    {"name": st.sampled_from(("images", "seed", "text", "a", "b")), "link": st.none() | st.integers(0, 12)}
)


UI_NODES = st.fixed_dictionaries(
    {
        "id": st.integers(-20, 12),
        "type": st.sampled_from(CLASSES),
        "mode": st.sampled_from((0, 0, 0, 2, 4)),
        "inputs": st.lists(SOCKETS, max_size=4),
        "outputs": st.lists(st.just({"type": "*"}), max_size=2),
        "widgets_values": st.lists(JSON, max_size=6) | st.dictionaries(st.text(max_size=6), JSON, max_size=4),
        "properties": st.just({}) | st.just({"proxyWidgets": [["1", "seed"], ["-1", "a"]]}),
    }
)


LINKS = st.lists(
    st.tuples(
        st.integers(0, 12), st.integers(-20, 12), st.integers(0, 3), st.integers(-20, 12), st.integers(0, 3)
    ),
    max_size=12,
)


GRAPHS = st.fixed_dictionaries(
    {
        "nodes": st.lists(UI_NODES, max_size=8),
        "inputs": st.lists(st.sampled_from(({"name": "a"}, {"name": "b"})), max_size=3),
    }
)


@given(top=GRAPHS, inside=st.lists(GRAPHS, max_size=3), links=st.lists(LINKS, min_size=4, max_size=4))
@settings(max_examples=60, deadline=None)
def test_whatever_a_file_holds_the_work_on_it_is_bounded(
    top: Workflow, inside: list[Workflow], links: list[list[tuple[int, ...]]]
) -> None:
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    subgraphs = [
        graph | {"id": f"s{at}", "links": [dict(zip(keys, link, strict=True)) for link in links[at]]}
        for at, graph in enumerate(inside)
    ]
    top_links = [[*link, "*"] for link in links[3]]
    raw = top | {"links": top_links, "definitions": {"subgraphs": subgraphs}}
    assert steps_of(lambda: computed(raw)) <= PER_BYTE * len(json.dumps(raw)) + AT_ONCE
