"""Templates and saved workflows as ComfyUI lists them, and as it never should."""

import json
from typing import Any

import pytest

from comfy_mcp.domain.workflow_entries import WorkflowOrigin
from comfy_mcp.places.comfyui.offered import MAX_ENTRIES, pack_templates_of, saved_of, templates_of
from tests.editor.recorded import templates


def read(name: str) -> Any:
    return json.loads((templates() / name).read_text(encoding="utf-8"))


def test_the_templates_of_today_are_listed_with_what_they_take_and_make() -> None:
    entries = {each.name: each for each in templates_of(read("index.json"), read("index.mcp.json"))}
    assert len(entries) > 500
    turbo = entries["image_z_image_turbo"]
    assert turbo.title == "Z-Image-Turbo: Text to Image"
    assert (turbo.inputs, turbo.outputs) == (("text: Prompt",), ("image: Generated output",))
    assert turbo.makes == {"image"}
    assert not turbo.paid
    assert turbo.model_bytes == 20_830_591_386
    assert entries["api_nano_banana_2_1_t2i"].paid
    assert sum(not each.makes for each in entries.values()) < 50


def test_without_the_second_index_the_first_is_enough() -> None:
    entries = {each.name: each for each in templates_of(read("index.json"))}
    assert entries["utility_seedvr2_7b_int8_upscale_image"].inputs == ("image",)
    assert entries["image_z_image_turbo"].makes == {"image"}


@pytest.mark.parametrize(
    "index", [None, 3, {}, [3], [{}], [{"templates": 3}], [{"templates": [3, {}, {"name": ""}, {"name": 3}]}]]
)
def test_what_is_no_index_lists_nothing(index: Any) -> None:
    assert templates_of(index, index) == ()


def test_a_template_with_odd_members_is_listed_all_the_same() -> None:
    odd = {"name": "x", "title": 3, "tags": [3, "a"], "io": [], "usage": "many", "size": None, "mediaType": 3}
    (entry,) = templates_of([{"templates": [odd, {"name": "x"}]}])
    assert (entry.title, entry.words[0], entry.usage, entry.makes) == ("x", "a", 0, frozenset())


def test_custom_nodes_have_templates_too() -> None:
    answer = {
        "ComfyUI-Fox_Nodes": ["red_fox poster", "two"],
        "Other": ["two", 3, "", "../x", ".x"],
        "..": ["x"],
    }
    found = pack_templates_of(answer | {"Odd": "x", "": ["x"], "a/b": ["x"], "c\\d": ["x"]})
    assert [each.name for each in found] == [
        "ComfyUI-Fox_Nodes/red_fox poster",
        "ComfyUI-Fox_Nodes/two",
        "Other/two",
    ]
    first = found[0]
    assert (first.title, first.words) == ("red fox poster", ("ComfyUI", "Fox", "Nodes"))
    assert first.origin is WorkflowOrigin.TEMPLATE
    assert not first.paid


@pytest.mark.parametrize("answer", [None, 3, [], ["a"]])
def test_without_templates_of_custom_nodes_none_are_listed(answer: Any) -> None:
    assert pack_templates_of(answer) == ()


def test_no_more_are_listed_than_anybody_reads() -> None:
    many = {"pack": [f"n{at}" for at in range(MAX_ENTRIES + 1)]}
    assert len(pack_templates_of(many)) == MAX_ENTRIES


def test_saved_workflows_are_listed_by_their_path() -> None:
    answer = [{"path": "sub/Fox_poster.json"}, "cat.app.json", "note.txt", ".index.json", 3, {"path": 3}]
    found = [(each.name, each.title, each.words) for each in saved_of(answer)]
    assert found == [("sub/Fox_poster", "Fox poster", ("sub",)), ("cat.app", "cat", ())]
    assert all(each.origin is WorkflowOrigin.SAVED for each in saved_of(answer))
    assert saved_of({"error": 1}) == ()
