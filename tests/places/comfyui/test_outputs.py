"""What a node says it made, as files and texts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.catalog import OutputFile, OutputKind
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.places.comfyui.outputs import MAX_TEXT_CHARS, outputs_of_node, outputs_of_prompt
from tests.support import recordings

N = NodeId("9")


def test_every_kind_of_output_of_a_recorded_run_is_found() -> None:
    [history] = [line for line in recordings.exchanges("04") if line.path.startswith("/history/")]
    [entry] = history.body.values()
    found = {
        (file.node, file.kind, file.filename or file.text) for file in outputs_of_prompt(entry["outputs"])
    }
    assert found == {
        ("8", OutputKind.LATENT, "zero_00002_.latent"),
        ("12", OutputKind.VIDEO, "clip_00003_.webm"),
        ("11", OutputKind.VIDEO, "clip_00004_.mp4"),
        ("6", OutputKind.AUDIO, "silence_00002.flac"),
        ("3", OutputKind.TEXT, "hi 8346536390b94cc4acaaaceac99d5151!"),
        ("4", OutputKind.TEXT, "hi 8346536390b94cc4acaaaceac99d5151!"),
        ("4", OutputKind.TEXT, "note_00002.txt"),
    }


def test_point_13_order_is_the_engines_and_each_file_is_listed_once() -> None:
    image = {"filename": "a.png", "subfolder": "s", "type": "temp"}
    files = outputs_of_node(N, {"gifs": [{"filename": "b.mp4"}], "images": [image, image], "more": image})
    assert files == (
        OutputFile(kind=OutputKind.VIDEO, filename="b.mp4", node=N),
        OutputFile(kind=OutputKind.IMAGE, filename="a.png", subfolder="s", folder_type="temp", node=N),
    )


@pytest.mark.parametrize(
    ("flags", "expected"),
    [([True], [True, True]), ([True, False], [True, False]), ([], [False, False]), (None, [False, False])],
)
def test_animated_speaks_for_all_images_or_for_each(flags: Any, expected: list[bool]) -> None:
    images = [{"filename": "a.webp"}, {"filename": "b.webp"}]
    files = outputs_of_node(N, {"images": images, "animated": flags})
    assert [file.animated for file in files] == expected


def test_animated_says_nothing_of_other_keys() -> None:
    [file] = outputs_of_node(N, {"audio": [{"filename": "a.flac"}], "animated": [True]})
    assert not file.animated


def test_a_text_may_be_bare_or_in_a_list_and_is_bounded() -> None:
    assert [file.text for file in outputs_of_node(N, {"text": "one"})] == ["one"]
    assert [file.text for file in outputs_of_node(N, {"text": ["one", None, "one"]})] == ["one", "one"]
    [file] = outputs_of_node(N, {"text": ["x" * (MAX_TEXT_CHARS + 1)]})
    assert file.text is not None
    assert (len(file.text), file.text[-2:]) == (MAX_TEXT_CHARS, "x…")


@pytest.mark.parametrize(
    ("output", "texts"),
    [
        ({"text": list("a haiku")}, ["a haiku"]),
        ({"text": ["a"]}, ["a"]),
        ({"text": ["a", "haiku"]}, ["a", "haiku"]),
        ({"tags": ["1girl, solo"]}, ["1girl, solo"]),
        ({"string": ["é"], "value": [512]}, ["é", "512"]),
        ({"value": [3.5, True]}, ["3.5", "true"]),
        ({"value": 7}, ["7"]),
        ({"text": [["a", ["é", 2]], "b"]}, ['["a", ["é", 2]]', "b"]),
        ({"text": [{"filename": "a.txt"}, {"other": 1}, None]}, [None]),
        ({"prompt": ["not a text to show"]}, []),
    ],
)
def test_texts_come_as_nodes_mean_them(output: Any, texts: list[str | None]) -> None:
    assert [file.text for file in outputs_of_node(N, output)] == texts


def test_a_list_that_is_too_deep_to_write_is_left_out() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert outputs_of_node(N, {"value": [deep]}) == ()


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("x.glb", ("x.glb", "", "output")),
        ("mesh/a b/x_00001_.spz", ("x_00001_.spz", "mesh/a b", "output")),
        ("mesh\\x.ksplat", ("x.ksplat", "mesh", "output")),
        ("3d/x.GLB [input]", ("x.GLB", "3d", "input")),
        ("x.usdz [temp]", ("x.usdz", "", "temp")),
        ("x.splat [other]", None),
        ("a camera", None),
        ("", None),
    ],
)
def test_a_result_that_is_the_path_of_a_3d_file_is_that_file(
    path: str, where: tuple[str, str, str] | None
) -> None:
    files = outputs_of_node(N, {"result": [path, {"position": [1, 2]}, None]})
    expected = [] if where is None else [(OutputKind.MODEL3D, *where)]
    assert [(file.kind, file.filename, file.subfolder, file.folder_type) for file in files] == expected


def test_a_file_that_is_named_in_both_ways_is_listed_once() -> None:
    saved = {"filename": "x.glb", "subfolder": "mesh", "type": "output"}
    assert len(outputs_of_node(N, {"3d": [saved], "result": ["mesh/x.glb"]})) == 1


@pytest.mark.parametrize(
    "output",
    [
        None,
        [],
        "a.png",
        {"images": None},
        {"images": [{"filename": ""}, {"filename": 3}, "a.png"]},
        {"images": [{"filename": "a" * 5_000}, {"filename": "a.png", "subfolder": "b" * 5_000}]},
    ],
)
def test_what_names_no_file_gives_none(output: Any) -> None:
    assert outputs_of_node(N, output) == ()


def test_odd_fields_fall_back_to_the_engines_defaults() -> None:
    [file] = outputs_of_node(N, {"images": [{"filename": "a", "subfolder": None, "type": ""}]})
    assert file == OutputFile(kind=OutputKind.FILE, filename="a", node=N)
    assert outputs_of_prompt(None) == ()


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["images", "filename", "text", "animated", "subfolder"]), inner),
))  # fmt: skip
def test_any_output_is_scanned(output: Any) -> None:
    assert all(file.filename or file.text is not None for file in outputs_of_prompt({"1": output}))
