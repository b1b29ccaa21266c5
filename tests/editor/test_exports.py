"""Our conversion against what the editor was recorded to send (see recorded.py). Needs no browser."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from comfy_mcp.domain.api_format import api_format
from comfy_mcp.domain.widgets import Widget, widgets_of
from tests.editor.nodes import image, node, save, workflow
from tests.editor.record import PAGE, table
from tests.editor.recorded import (
    ENGINE,
    OLDER,
    ON_OLDER,
    VERSION,
    Verdict,
    judged,
    load,
    node_list,
    template,
    verdicts,
)

DRAWN_ELSEWHERE = {"WebcamCapture", "Load3DAdvanced", "LoadImageOutput", "CustomCombo"}
"""Classes whose new node has a value that only the browser makes (a camera, a viewport, a list being loaded).
"""

RECORDED = [(editor, what) for editor in ENGINE for what in ("exports", "changed", "edited", "made")]
ENOUGH = {
    (VERSION, "exports"): 500,
    (VERSION, "changed"): 500,
    (ON_OLDER, "changed"): 90,
    (ON_OLDER, "exports"): 90,
    (OLDER, "exports"): 90,
}


@pytest.fixture(scope="module")
def all_verdicts() -> dict[tuple[str, str], list[Verdict]]:
    return {(editor, what): list(verdicts(editor, what)) for editor, what in RECORDED}


@pytest.mark.parametrize(("editor", "what"), RECORDED)
def test_nothing_is_different_without_a_warning(
    all_verdicts: dict[tuple[str, str], list[Verdict]], editor: str, what: str
) -> None:
    found = all_verdicts[editor, what]
    assert len(found) >= ENOUGH.get((editor, what), 0)
    assert {verdict.name: verdict.differences for verdict in found if verdict.kind == "silent"} == {}


LEFT = ("captures in the browser", "loses it when it opens this file", "is switched off and does not run")
"""The classes of difference that remain (docs/ui-format.md), in the words of their warnings."""


def test_what_is_different_is_of_a_class_that_the_documents_name(
    all_verdicts: dict[tuple[str, str], list[Verdict]],
) -> None:
    for (editor, _), found in all_verdicts.items():
        for verdict in found:
            if verdict.kind == "warned":
                assert any(words in " ".join(verdict.warnings) for words in LEFT), (editor, verdict)


@pytest.mark.parametrize("editor", [VERSION, ON_OLDER])
def test_99_of_100_files_are_equal_where_the_editors_export_is_whole(
    all_verdicts: dict[tuple[str, str], list[Verdict]], editor: str
) -> None:
    kinds = Counter(
        verdict.kind
        for (of, what), found in all_verdicts.items()
        for verdict in found
        if of == editor and what != "made"  # one for each rule, however rare: no measure of files
    )
    assert kinds["equal"] / (kinds.total() - kinds["damaged"]) >= 0.99
    assert kinds["damaged"] / kinds.total() < 0.03


def test_an_export_is_damaged_only_where_the_engine_refuses_it_or_the_class_is_another_one() -> None:
    sizes = {"width": 8, "height": 8, "batch_size": 1, "color": 0}
    file = workflow(
        [image(1, widgets_values_named=sizes | {"gone": 5}), save(2, 1)], [[1, 1, 0, 2, 0, "IMAGE"]]
    )
    graph, _ = api_format(file, node_list())
    assert isinstance(graph, dict)

    def with_height(height: object) -> dict[str, Any]:
        return graph | {"1": graph["1"] | {"inputs": graph["1"]["inputs"] | {"height": height}}}

    assert judged("another class", file, with_height(77), node_list()).kind == "damaged"
    named = json.loads(json.dumps(file).replace('"gone": 5', '"color": 0'))
    warned = named | {"nodes": [*named["nodes"], node(3, "EmptyImage", 8, 8, 1, 0, "left over", 77)]}
    export = with_height(77) | {"3": graph["1"]}
    assert judged("the same class", warned, export, node_list()).kind == "warned"
    assert judged("refused", warned, with_height("x") | {"3": graph["1"]}, node_list()).kind == "damaged"


def test_an_older_editors_export_counts_where_todays_is_the_same() -> None:
    file = workflow([image(1), save(2, 1)], [[1, 1, 0, 2, 0, "IMAGE"]])
    graph, _ = api_format(file, node_list())
    assert isinstance(graph, dict)
    older = graph | {"2": graph["2"] | {"inputs": graph["2"]["inputs"] | {"filename_prefix": "y"}}}
    assert judged("both", file, older, node_list(), today=graph).kind == "today"
    assert judged("neither", file, older, node_list(), today=older).kind == "silent"


def test_the_page_has_todays_figures() -> None:
    assert table() in PAGE.read_text(encoding="utf-8")


def test_names_that_disagree_with_an_unchanged_class_are_told_and_the_list_counts() -> None:
    case = load(f"made_{VERSION}.json.gz")["names that disagree"]
    verdict = judged("names", case["file"], case["output"], node_list())
    assert verdict.kind == "equal"
    assert len(verdict.warnings) == 4
    assert "8 by its place in the list, 16 by its name" in verdict.warnings[0]


EDITOR_ODD = {
    *("group node muted", "group node bypassed", "four growing links behind a choice"),
    *("links as objects in a file of lists", "links as lists in a file of objects"),
    "a second link to a reroute",
}
"""The editor runs what is switched off, or loses a link; a warning says so."""


@pytest.mark.parametrize("name", sorted(load(f"made_{VERSION}.json.gz")))
def test_each_rule_of_the_editor(name: str) -> None:
    case = load(f"made_{VERSION}.json.gz")[name]
    verdict = judged(name, case["file"], case["output"], node_list())
    assert verdict.kind in ({"warned", "damaged"} if name in EDITOR_ODD else {"equal"}), verdict


def test_every_class_has_the_editors_controls_in_the_editors_order() -> None:
    recorded = load(f"classes_{VERSION}.json.gz")
    for name, seen in recorded.items():
        found = new_node(name)
        if name not in DRAWN_ELSEWHERE:
            assert [widget.name for widget in found if widget.saved] == seen["saved"], name
            if seen["sent"] is not None:
                mine = {widget.name for widget in found if widget.sent and widget.default is not None}
                assert mine == set(seen["sent"]), name
    assert len(recorded) == len(node_list().classes)


def new_node(name: str) -> list[Widget]:
    values: dict[str, Any] = {}
    found = []
    for widget in widgets_of(node_list().classes[name], values):
        values[widget.name] = widget.default
        found.append(widget)
    return found


def test_a_template_that_is_older_than_its_class_is_told_loudly() -> None:
    graph: Mapping[str, Any] = load(f"exports_{VERSION}.json.gz")["3d_hunyuan3d-v2.1"]
    verdict = judged("old", template("3d_hunyuan3d-v2.1"), graph, node_list())
    assert verdict.kind == "damaged"
    assert any("input 'sampling': the class has no such input" in warning for warning in verdict.warnings)
