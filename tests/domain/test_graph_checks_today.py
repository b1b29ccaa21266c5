"""The checks and ComfyUI 0.33.0 on inputs that grow: dynamic combos, autogrow inputs and V3 combos.

`object_info_0.33.0.json.gz` is the whole answer of a real server's /object_info. Its verdicts were measured
on that same server (0.33.0 on a CPU, 886 classes). They stand in comfyui-today.md of this project's facts,
under "Where our checks and the engine disagree"; each row has the name of its row there. Only the verdicts
were kept, so each graph is a small one that has the fault of its row. For a bad value behind an autogrow
input the table names no error: its kind is that of the same value elsewhere (05_validation_errors).
"""

from typing import Any

import pytest

from comfy_mcp.domain.object_info import ObjectInfo
from tests.domain.judged_graphs import report, the_problem
from tests.editor.recorded import load

INFO = ObjectInfo.parse(load("object_info_0.33.0.json.gz"))
PNG = {"format": "png", "format.bit_depth": "8-bit", "format.input_color_space": "sRGB"}
LONGER = {"resize_type": "scale longer dimension", "resize_type.longer_size": 64, "scale_method": "area"}


def image(**changed: Any) -> dict[str, Any]:
    values = {"width": 64, "height": 64, "batch_size": 1, "color": 0, **changed}
    return {"class_type": "EmptyImage", "inputs": values}


def saved(node: dict[str, Any], of: dict[str, Any]) -> dict[str, Any]:
    """`node` makes a picture of `of`, and it is saved."""
    return {
        "1": of,
        "2": node,
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    }


def advanced(**values: Any) -> dict[str, Any]:
    given = {"images": ["1", 0], "filename_prefix": "x", **values}
    return {"1": image(), "2": {"class_type": "SaveImageAdvanced", "inputs": given}}


def video(**values: Any) -> dict[str, Any]:
    return {
        "1": image(),
        "2": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 8.0}},
        "3": {"class_type": "SaveVideo", "inputs": {"video": ["2", 0], "filename_prefix": "x", **values}},
    }


def resized(**changed: Any) -> dict[str, Any]:
    values = {"input": ["1", 0], **LONGER, **changed}
    return saved({"class_type": "ResizeImageMaskNode", "inputs": values}, image())


def batched(of: dict[str, Any], **values: Any) -> dict[str, Any]:
    return saved({"class_type": "BatchImagesNode", "inputs": values}, of)


def flipped(method: str) -> dict[str, Any]:
    return saved({"class_type": "ImageFlip", "inputs": {"image": ["1", 0], "flip_method": method}}, image())


Row = tuple[dict[str, Any], str, str, str]
"""A graph, the kind of its fault, and the node and input where it is."""

REFUSED: dict[str, Row] = {
    "child of a dynamic combo out of range": (
        resized(**{"resize_type.longer_size": 99_999}),
        "value_bigger_than_max",
        "2",
        "resize_type.longer_size",
    ),
    "autogrow without its first input": (
        batched(image(), **{"images.image1": ["1", 0]}),
        "required_input_missing",
        "2",
        "images.image0",
    ),
    "a bad value behind an autogrow input": (
        batched(image(width="wide"), **{"images.image0": ["1", 0]}),
        "invalid_input_type",
        "1",
        "width",
    ),
    "V3 COMBO value that is not in the list": (flipped("z-axis"), "value_not_in_list", "2", "flip_method"),
}
"""The engine answers 400 with this kind."""

FAILING: dict[str, Row] = {
    "SaveVideo without format": (video(), "required_input_missing", "3", "format"),
    "SaveImageAdvanced without format": (advanced(), "required_input_missing", "2", "format"),
    "unknown key of a dynamic combo": (
        resized(resize_type="scale by feet"),
        "value_not_in_list",
        "2",
        "resize_type",
    ),
}
"""The engine accepts it with a 200, and then a node raises TypeError. The kind is the bridge's."""

GOOD: tuple[dict[str, Any], ...] = (
    video(format="auto", **{"format.codec": "auto"}),
    advanced(**PNG),
    resized(),
    batched(image(), **{"images.image0": ["1", 0]}),
    flipped("x-axis: vertically"),
)


@pytest.mark.parametrize("row", REFUSED.values(), ids=list(REFUSED))
def test_what_the_engine_refuses_is_refused_with_its_kind(row: Row) -> None:
    graph, *expected = row
    problem = the_problem(graph, INFO)
    assert [problem.kind, problem.node_id, problem.input_name] == expected


@pytest.mark.parametrize("row", FAILING.values(), ids=list(FAILING))
def test_what_the_engine_accepts_and_fails_on_is_refused(row: Row) -> None:
    graph, *expected = row
    problem = the_problem(graph, INFO)
    assert [problem.kind, problem.node_id, problem.input_name] == expected


@pytest.mark.parametrize("graph", GOOD, ids=[graph["2"]["class_type"] for graph in GOOD])
def test_the_same_graphs_without_their_fault_are_good(graph: dict[str, Any]) -> None:
    found = report(graph, INFO)
    assert found.runnable
    assert found.warnings == ()
