"""Declared inputs that grow inputs of their own."""

from typing import Any

import pytest

from comfy_mcp.domain.inputs import MAX_SLOTS, InputSpec, Owner, active, read_inputs

OWN = Owner(name="X", certain=True)


def names(declared: dict[str, Any], **values: Any) -> list[str]:
    return [spec.name for spec in active(specs(declared), values)]


def specs(declared: dict[str, Any]) -> tuple[InputSpec, ...]:
    return read_inputs(OWN, {"required": declared})


def combo(**choices: dict[str, Any]) -> list[Any]:
    options = [{"key": key, "inputs": {"required": inputs}} for key, inputs in choices.items()]
    return ["COMFY_DYNAMICCOMBO_V3", {"options": options}]


def grown(**template: Any) -> list[Any]:
    return ["COMFY_AUTOGROW_V3", {"template": template}]


def test_a_choice_brings_its_inputs_and_theirs() -> None:
    codec = combo(auto={}, h264={"crf": ["FLOAT", {"max": 51}]})
    declared = {"format": combo(mp4={"codec": codec}, webm={}), "last": ["INT"]}
    assert names(declared) == ["format", "last"]
    assert names(declared, format="webm") == names(declared, format="odd") == ["format", "last"]
    assert names(declared, format=["a", 0]) == ["format", "last"]
    assert names(declared, format="mp4") == ["format", "format.codec", "last"]
    found = names(declared, format="mp4", **{"format.codec": "h264"})
    assert found == ["format", "format.codec", "format.codec.crf", "last"]


def test_a_choice_may_be_filled_in_while_walking() -> None:
    values: dict[str, object] = {}
    found = []
    for spec in active(specs({"format": combo(mp4={"fps": ["INT"]})}), values):
        found.append(spec.name)
        values[spec.name] = "mp4"
    assert found == ["format", "format.fps"]


def test_an_autogrow_input_has_slots_of_which_the_first_are_required() -> None:
    one = {"required": {"image": ["IMAGE", {}]}}
    found = list(active(specs({"images": grown(input=one, prefix="image", min=1, max=3)}), {}))
    assert [(spec.name, spec.required) for spec in found] == [
        *(("images", True), ("images.image0", True), ("images.image1", False), ("images.image2", False))
    ]
    assert names({"images": grown(input=one, names=["a", "b"], min="x")}) == [
        "images",
        "images.a",
        "images.b",
    ]
    (spec,) = specs({"images": grown(input=one, prefix="i", max=10**9)})
    assert len(spec.slots) == MAX_SLOTS


@pytest.mark.parametrize(
    "template",
    [
        *(None, {}, {"input": None}, {"input": {"required": {"a": ["INT"], "b": ["INT"]}}, "names": ["x"]}),
        *({"input": {"required": {"a": ["INT"]}}, "prefix": 3}, {"input": {"required": {"a": ["INT"]}}}),
    ],
)
def test_a_template_of_an_odd_shape_grows_nothing_that_is_known(template: object) -> None:
    (spec,) = specs({"images": ["COMFY_AUTOGROW_V3", {"template": template}]})
    assert spec.dynamic
    assert spec.slots == ()


def test_a_slot_brings_its_inputs_once_it_is_given() -> None:
    declared = {"mask": ["COMFY_DYNAMICSLOT_V3", {"inputs": {"required": {"strength": ["FLOAT"]}}}]}
    assert names(declared) == ["mask"]
    assert names(declared, mask=["1", 0]) == ["mask", "mask.strength"]


def test_declarations_nested_beyond_measure_are_cut() -> None:
    declared: dict[str, Any] = {"x": ["INT"]}
    for _ in range(50):
        declared = {"x": combo(a=declared)}
    assert len(names(declared, **{"x" + ".x" * depth: "a" for depth in range(50)})) < 15


def test_odd_choices_are_left_out() -> None:
    (spec,) = specs(
        {"x": ["COMFY_DYNAMICCOMBO_V3", {"options": ["a", {"key": 3}, {"key": "b", "inputs": 1}]}]}
    )
    assert spec.options == ("b",)
    (spec,) = specs({"x": ["COMFY_DYNAMICCOMBO_V3", {"options": "a"}]})
    assert (spec.type, spec.dynamic) == (None, True)
