"""GET /object_info, as it is and as it should not be."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.object_info import InputSpec, ObjectInfo

EXCERPT: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "object_info_excerpt.json").read_text(encoding="utf-8")
)


def the_input(declaration: object, *, module: object = "nodes", section: str = "required") -> InputSpec:
    raw = {"X": {"input": {section: {"x": declaration}}, "output": [], "python_module": module}}
    return ObjectInfo.parse(raw).classes["X"].inputs["x"]


def test_every_class_of_a_real_engine_is_understood() -> None:
    info = ObjectInfo.parse(EXCERPT)
    assert set(info.classes) == set(EXCERPT)
    assert all(known.checked and known.certain for known in info.classes.values())
    specs = [spec for known in info.classes.values() for spec in known.inputs.values()]
    assert all(spec.type is not None for spec in specs)


def test_a_class_has_its_inputs_outputs_and_whether_it_ends_a_branch() -> None:
    classes = ObjectInfo.parse(EXCERPT).classes
    assert classes["SaveImage"].output_node
    assert not classes["EmptyImage"].output_node
    assert classes["CheckpointLoaderSimple"].output_types == ("MODEL", "CLIP", "VAE")
    assert set(classes["EmptyImage"].inputs) == {"width", "height", "batch_size", "color"}
    assert classes["EmptyImage"].inputs["width"] == InputSpec(
        name="width", required=True, type="INT", minimum=1, maximum=16384
    )


def test_hidden_inputs_are_not_the_authors_business() -> None:
    assert set(ObjectInfo.parse(EXCERPT).classes["SaveImage"].inputs) == {"images", "filename_prefix"}


def test_the_old_combo_spelling_is_strict_for_the_engines_own_classes() -> None:
    spec = the_input([["a", "b"], {"default": "a"}])
    assert (spec.type, spec.options, spec.strict_options) == ("COMBO", ("a", "b"), True)


def test_the_new_combo_spelling_has_its_options_and_is_not_strict() -> None:
    spec = the_input(["COMBO", {"options": ["a", "b"], "multiselect": True}])
    assert (spec.type, spec.options, spec.strict_options, spec.multiple) == ("COMBO", ("a", "b"), False, True)
    assert not the_input(["COMBO", {"options": ["a"], "multiselect": False}]).multiple


@pytest.mark.parametrize("extra", [{}, {"options": "a"}, {"options": ["a"], "remote": {"route": "/x"}}])
def test_a_new_combo_without_a_list_of_its_own_takes_anything(extra: object) -> None:
    assert the_input(["COMBO", extra]).options is None


@pytest.mark.parametrize(
    "flag",
    ["image_upload", "video_upload", "audio_upload", "file_upload", "upload", "remote", "image_folder"],
)
def test_a_list_that_uploads_add_to_is_not_strict(flag: str) -> None:
    assert not the_input([["a.png"], {flag: True}]).strict_options


def test_a_flag_that_is_off_changes_nothing() -> None:
    assert the_input([["a.png"], {"image_upload": False}]).strict_options


def test_classes_that_are_not_the_engines_own_may_check_in_their_own_way() -> None:
    assert not the_input([["a"]], module="custom_nodes.pack").strict_options
    assert not the_input([["a"]], module="comfy_api_nodes.nodes_x").strict_options
    assert not the_input([["a"]], module=None).strict_options
    assert the_input([["a"]], module="comfy_extras.nodes_x").strict_options


def test_a_core_class_known_to_check_for_itself_is_not_strict() -> None:
    spec = ObjectInfo.parse(EXCERPT).classes["LoadLatent"].inputs["latent"]
    assert spec.options is not None
    assert not spec.strict_options


@pytest.mark.parametrize("kind", ["COMFY_AUTOGROW_V3", "COMFY_DYNAMICCOMBO_V3"])
def test_inputs_that_grow_at_run_time_are_left_to_the_engine(kind: str) -> None:
    spec = the_input([kind, {"template": {}}])
    assert (spec.type, spec.dynamic) == (None, True)


@pytest.mark.parametrize("declaration", [None, [], "INT", 3, [None], [3, {}], {"type": "INT"}])
def test_an_input_of_an_odd_shape_is_known_but_unchecked(declaration: object) -> None:
    spec = the_input(declaration)
    assert (spec.type, spec.required, spec.options) == (None, True, None)


def test_a_declaration_without_options_or_with_odd_ones_is_taken_for_its_type() -> None:
    assert the_input(["INT"]) == InputSpec(name="x", required=True, type="INT")
    assert the_input(["INT", "odd"], section="optional") == InputSpec(name="x", required=False, type="INT")
    assert the_input(["INT", {"min": "0", "max": None}]).minimum is None


@pytest.mark.parametrize("odd", [None, [], "x", {}, {"input": None}, {"input": []}])
def test_a_class_of_an_odd_shape_is_known_and_unchecked(odd: object) -> None:
    known = ObjectInfo.parse({"X": odd}).classes["X"]
    assert not known.checked
    assert known.output_node


def test_sections_and_outputs_of_an_odd_shape_are_passed_over() -> None:
    known = ObjectInfo.parse({"X": {"input": {"required": [], "optional": None}, "output": "IMAGE"}}).classes[
        "X"
    ]
    assert known.checked
    assert known.inputs == {}
    assert known.output_types is None


def test_an_output_type_that_is_a_list_of_options_is_not_compared() -> None:
    known = ObjectInfo.parse({"X": {"input": {}, "output": [["a", "b"], "IMAGE"]}}).classes["X"]
    assert known.output_types == (None, "IMAGE")


def test_names_that_the_engine_replaces_itself_are_known() -> None:
    info = ObjectInfo.parse(EXCERPT, replaceable=("OldNode", "EmptyImage"))
    assert not info.classes["OldNode"].checked
    assert info.classes["EmptyImage"].checked


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["input", "output", "required", "x", "min", "COMBO"]), inner, max_size=3
        )
    ),
    max_leaves=15,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_parsing_never_raises(raw: dict[str, Any]) -> None:
    assert set(ObjectInfo.parse(raw).classes) == set(raw)
