"""What the scripts of custom packs make of saved values; nodes of packs that live in the editor only."""

from typing import Any

import pytest

from tests.domain.ui_files import converted, handing, image, save

LORAS = "Power Lora Loader (rgthree)"
LORA = {"on": True, "lora": "a.safetensors", "strength": 0.5, "strengthTwo": None}


@pytest.mark.parametrize("pack", ["{}Node", "easy {}Node", "GG{}Node"])
def test_the_packs_call_such_nodes_alike(pack: str) -> None:
    given, named = (pack.format(word) for word in (("set", "get") if "easy" in pack else ("Set", "Get")))
    file = {
        "nodes": [image(1, 8, 8), handing(2, given, 1, "a"), handing(3, named, None, "a"), save(4, 2)],
        "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 3, 0, 4, 0, "IMAGE"]],
    }
    assert converted(file)[0]["4"]["inputs"]["images"] == ["1", 0]


@pytest.mark.parametrize(
    ("shown", "lora", "expected"),
    [
        ("Single Strength", LORA, {"on": True, "lora": "a.safetensors", "strength": 0.5}),
        ("Separate Model & Clip", LORA, {**LORA, "strengthTwo": 1}),
        ("Separate Model & Clip", {**LORA, "strengthTwo": 0.25}, {**LORA, "strengthTwo": 0.25}),
    ],
)
def test_each_lora_of_the_power_loader_is_an_input(shown: str, lora: Any, expected: Any) -> None:
    node = {"id": 1, "type": LORAS, "properties": {"Show Strengths": shown}}
    node["widgets_values"] = [
        {},
        {"type": "PowerLoraLoaderHeaderWidget"},
        lora,
        None,
        "x",
        lora,
        {},
        "",
        {"y": 1},
    ]
    declared = {"input": {"required": {}, "optional": {"model": ["MODEL"]}}, "output": ["MODEL"]}
    graph, warnings = converted({"nodes": [node]}, **{LORAS: declared})
    assert graph["1"]["inputs"] == {
        "PowerLoraLoaderHeaderWidget": {"type": "PowerLoraLoaderHeaderWidget"},
        "lora_1": expected,
        "lora_2": expected,
        "\N{HEAVY PLUS SIGN} Add Lora": "",
    }
    assert warnings == (f"Node 1 ({LORAS}): the class has no input for saved values: 'x', {{'y': 1}}.",)


def test_what_switches_other_nodes_in_the_editor_is_no_node_of_the_engine() -> None:
    muter = handing(3, "Fast Muter (rgthree)", 2)
    graph, warnings = converted(
        {
            "nodes": [image(1, 8, 9), save(2, 1), muter],
            "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 1, 0, 3, 0, "*"]],
        }
    )
    assert set(graph) == {"1", "2"}
    assert warnings == ()


# ------------------------------------------------------------------------------------ VideoHelperSuite

_NUMBERS = ("force_rate", "custom_width", "custom_height", "frame_load_cap", "skip_first_frames")
LOAD: dict[str, Any] = {
    "required": {"video": [["a.mp4"]], **{name: ["INT", {"default": 0}] for name in _NUMBERS},
                 "select_every_nth": ["INT", {"default": 1}]},
    "optional": {"format": [["None", "Wan"], {"default": "Wan", "formats": {"Wan": {"dim": [8]}}}]},
}  # fmt: skip
FORMATS = {
    "video/mp4": [["pix_fmt", ["yuv420p", "yuv444p"]], ["crf", "INT", {"default": 19}], ["crf"], [], 3],
    "video/none": [],
    "odd": {"pix_fmt": 1},
}
LISTED = ["image/gif", *FORMATS]


def video(kind: str, values: Any, declared: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    node = {"id": 1, "type": kind, "widgets_values": values}
    graph, warnings = converted({"nodes": [node]}, **{kind: {"input": declared, "output": []}})
    inputs: dict[str, Any] = graph["1"]["inputs"]
    return inputs, warnings


def combine(**formats: Any) -> dict[str, Any]:
    return {"required": {"format": [LISTED, formats], "save_output": ["BOOLEAN", {"default": True}]}}


@pytest.mark.parametrize(
    ("size", "width", "height"),
    [
        ("Disabled", 0, 0),
        ("Custom Width", 5, 0),
        ("Custom Height", 0, 6),
        ("Custom", 5, 6),
        ("512x?", 512, 0),
        ("?x410.4", 0, 410),
        ("axb", 5, 6),
        (3, 5, 6),
        (None, 5, 6),
    ],
)
def test_the_size_of_older_video_loaders_sets_both_sides(size: Any, width: int, height: int) -> None:
    saved = {"video": "a.mp4", "force_size": size, "custom_width": 5, "custom_height": 6}
    saved |= {"choose video to upload": "image", "videopreview": {"hidden": False}}
    inputs, warnings = video("VHS_LoadVideo", saved, LOAD)
    assert (inputs["custom_width"], inputs["custom_height"]) == (width, height)
    assert set(inputs) == {*LOAD["required"], "format"}
    assert warnings == ()


def test_values_of_2023_have_their_names_in_the_packs_order() -> None:
    inputs, warnings = video("VHS_LoadVideo", ["b.mp4", 8, "256x?", 16, 1, 2, "image", {}], LOAD)
    assert list(inputs.values()) == ["b.mp4", 8, 256, 0, 16, 1, 2, "Wan"]
    assert list(inputs) == ["video", *_NUMBERS, "select_every_nth", "format"]
    assert warnings == ()
    more = video("VHS_LoadVideo", ["b.mp4", 8, "256x?", 16, 1, 2, "image", None, {}, 9], LOAD)
    assert more == (inputs, ("Node 1 (VHS_LoadVideo): the class has no input for saved values: 9.",))
    images = {"required": {"directory": ["STRING"]}, "optional": {"image_load_cap": ["INT", {"default": 0}]}}
    assert video("VHS_LoadImages", ["dir", "image", 4, 0, 1], images)[0] == {
        "directory": "dir",
        "image_load_cap": 4,
    }
    assert video("VHS_LoadImages", ["dir"], images)[0] == {"directory": "dir", "image_load_cap": 0}


def test_a_format_brings_controls_and_no_others_are_sent() -> None:
    saved = {"format": "video/mp4", "crf": 30, "save_image": False, "audio_file": "x", "gone": None}
    inputs, warnings = video("VHS_VideoCombine", saved, combine(formats=FORMATS))
    assert inputs == {"format": "video/mp4", "pix_fmt": "yuv420p", "crf": 30, "save_output": False}
    assert warnings == (
        "Node 1 (VHS_VideoCombine), input 'audio_file': the node has no such control; 'x' is not sent.",
    )
    both = {"format": "video/none", "save_output": True, "save_image": False}
    assert video("VHS_VideoCombine", both, combine(formats=FORMATS))[0] == {
        "format": "video/none",
        "save_output": True,
    }


@pytest.mark.parametrize("declared", [combine(), combine(formats=3), {"required": {}}])
def test_what_a_format_brings_is_sent_where_the_class_does_not_say_it(declared: Any) -> None:
    inputs, warnings = video("VHS_VideoCombine", {"format": "video/mp4", "crf": 30}, declared)
    assert inputs["crf"] == 30
    assert warnings == ()
    assert video("VHS_LoadAudio", {"seek": 3}, {"required": {}})[0] == {"seek": 3}


# ------------------------------------------------------------------------- what classes do not declare

TEXT = {"required": {"text": ["STRING", {"default": ""}]}}


def pack(
    kind: str, values: Any, declared: Any = TEXT, module: str = "custom_nodes.x", **saved: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    node = {"id": 1, "type": kind, "widgets_values": values, **saved}
    known = {"input": declared, "output": [], "python_module": module}
    graph, warnings = converted({"nodes": [node]}, **{kind: known})
    inputs: dict[str, Any] = graph["1"]["inputs"]
    return inputs, warnings


def test_a_name_that_a_custom_class_does_not_declare_is_sent_and_told() -> None:
    """Some classes take whatever they are given (a table, code); the editor sends every control."""
    named: dict[str, Any] = {
        "text": "a",
        "table": "x|y",
        "button": None,
        "info": "",
        "rows": [],
        "choose video to upload": "image",
    }
    inputs, warnings = pack("Tables", ["a", "x|y", None, ""], widgets_values_named=named)
    assert inputs == {"text": "a", "table": "x|y"}
    (warning,) = warnings
    assert "input 'table': the class has no such input; 'x|y' is sent all the same" in warning
    own, warnings = pack("Tables", ["a", "x|y"], module="nodes", widgets_values_named=named)
    assert own == {"text": "a"}
    assert len(warnings) == 4


@pytest.mark.parametrize("kind", ["ShowText|pysssss", "Seed (rgthree)"])
def test_what_only_shows_something_is_no_lost_value(kind: str) -> None:
    assert pack(kind, ["a", ["shown"], "okay"]) == ({"text": "a"}, ())
    assert pack(kind, ["a", "okay"], widgets_values_named={"text": "a", "USE": "okay"}) == ({"text": "a"}, ())


def test_an_optional_input_of_a_power_prompt_is_sent_only_if_it_is_saved() -> None:
    declared = {**TEXT, "optional": {"insert_lora": [["CHOOSE", "a"]]}}
    assert pack("Power Prompt (rgthree)", ["cat"], declared)[0] == {"text": "cat"}
    assert pack("Power Prompt (rgthree)", ["cat", "a"], declared)[0] == {"text": "cat", "insert_lora": "a"}
    assert pack("Other (rgthree)", ["cat"], declared)[0] == {"text": "cat", "insert_lora": "CHOOSE"}


def test_inputs_that_no_class_declares_have_the_packs_names() -> None:
    empty: dict[str, Any] = {"required": {}}
    assert pack("Power Puter (rgthree)", [{"outputs": ["INT"]}, "a + 1"], empty) == (
        {"outputs": {"outputs": ["INT"]}, "code": "a + 1"},
        (),
    )
    assert pack("Power Primitive (rgthree)", ["INT", 3], empty)[0] == {"type": "INT", "value": 3}
    told = ("Node 1 (Power Primitive (rgthree)): the class has no input for saved values: 4.",)
    assert pack("Power Primitive (rgthree)", ["INT", 3, None, 4], empty)[1] == told
    assert pack("Power Primitive (rgthree)", None, empty)[0] == {}


@pytest.mark.parametrize(
    ("kind", "name", "value", "said"),
    [
        ("Sampler", "seed", -1, "draws a number for each run"),
        ("Sampler", "noise_seed", -3, "draws a number for each run"),
        ("Sampler", "seed", 5, None),
        ("Sampler", "other", -1, None),
        ("ImageTransformKJ", "bboxes", 1, "in the browser is not known here"),
    ],
)
def test_what_a_script_makes_in_the_browser_is_told(
    kind: str, name: str, value: Any, said: str | None
) -> None:
    declared = {"required": {name: ["INT", {"default": 0}]}}
    inputs, warnings = pack(kind, [value], declared)
    assert inputs == {name: value}
    assert len(warnings) == (said is not None)
    assert (said or "") in "".join(warnings)
    assert pack(kind, [value], declared, module="nodes")[1] == ()


def test_a_class_that_is_listed_twice_is_sent_under_its_own_name() -> None:
    show = {"input": TEXT, "output": [], "name": "Show"}
    file = {
        "nodes": [{"id": number, "type": kind} for number, kind in enumerate(("Show", "ShowLazy", "Odd"), 1)]
    }
    graph, _ = converted(file, Show=show, ShowLazy=show, Odd={**show, "name": "Gone"})
    assert [graph[key]["class_type"] for key in "123"] == ["Show", "Show", "Odd"]
