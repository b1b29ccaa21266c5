"""Templates and saved workflows as ComfyUI lists them, and as it never should."""

import json
from typing import Any

import pytest

from comfy_mcp.domain.workflow_entries import WorkflowOrigin
from comfy_mcp.places.comfyui.offered import saved_of, templates_of
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


def test_saved_workflows_are_listed_by_their_path() -> None:
    answer = [{"path": "sub/Fox_poster.json"}, "cat.app.json", "note.txt", ".index.json", 3, {"path": 3}]
    found = [(each.name, each.title, each.words) for each in saved_of(answer)]
    assert found == [("sub/Fox_poster", "Fox poster", ("sub",)), ("cat.app", "cat", ())]
    assert all(each.origin is WorkflowOrigin.SAVED for each in saved_of(answer))
    assert saved_of({"error": 1}) == ()
