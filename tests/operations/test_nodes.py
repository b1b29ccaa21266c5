"""Node classes are searched by words and types, and shown in full, a page of choices at a time."""

from typing import Any

import pytest

from comfy_mcp.domain.errors import EngineUnreachable, InvalidInput, NotFound
from comfy_mcp.domain.node_lists import NodeLists
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.operations.nodes import _one
from tests.editor.recorded import node_list
from tests.operations.conftest import Bench


async def test_words_find_classes_and_pages_go_on(call: Bench) -> None:
    first = await call("find_nodes", query="scale image", limit=1)
    assert first.next_cursor is not None
    assert "(pass next_cursor as cursor)" in first.text()
    second = await call("find_nodes", query="scale image", limit=1, cursor=first.next_cursor)
    assert {first.nodes[0].name, second.nodes[0].name} == {"ImageScale", "ImageScaleBy"}
    nothing = await call("find_nodes", query="zebra")
    assert nothing.text() == 'No such node. Call find_nodes(query="…") with other words.'


async def test_words_that_no_class_has_are_named_beside_what_the_others_find(call: Bench) -> None:
    found = await call("find_nodes", query="How do I blur an image?", limit=1)
    assert found.warnings == ["No class has the word 'blur'; these have the others."]
    assert found.text().startswith(found.warnings[0])
    assert (await call("find_nodes", query="scale the image", limit=1)).warnings == []
    assert (await call("find_nodes", query="zebra")).warnings == []


async def test_types_find_classes(call: Bench) -> None:
    both = await call("find_nodes", produces="image", accepts="INT", limit=200)
    assert "EmptyImage" in {each.name for each in both.nodes}
    assert all("IMAGE" in each.outputs for each in both.nodes)
    assert [each.name for each in both.nodes] == sorted(each.name for each in both.nodes)
    assert (await call("find_nodes", produces="NOTHING")).total == 0


async def test_one_class_has_its_inputs_and_an_input_its_choices(call: Bench) -> None:
    whole = await call("find_nodes", name="ImageScaleBy")
    inputs = {each.name: each for each in whole.nodes[0].inputs}
    assert inputs["upscale_method"].choice_count == 5
    assert inputs["scale_by"].default == 1.0
    page = await call("find_nodes", name="ImageScaleBy.upscale_method", limit=2)
    assert page.nodes[0].inputs[0].choices == ["nearest-exact", "bilinear"]
    assert "bilinear…" in page.text()
    rest = await call("find_nodes", name="ImageScaleBy.upscale_method", limit=3, cursor=page.next_cursor)
    assert rest.nodes[0].inputs[0].choices == ["area", "bicubic", "lanczos"]
    assert rest.next_cursor is None


@pytest.mark.parametrize(
    "asked",
    [
        {"name": "imagescaleby.upscale_method"},
        {"name": " ImageScaleBy.upscale_method"},
        {"query": "ImageScaleBy.upscale_method"},
    ],
)
async def test_an_input_is_found_in_other_spellings(call: Bench, asked: dict[str, Any]) -> None:
    found = await call("find_nodes", **asked)
    assert (found.nodes[0].name, found.nodes[0].inputs[0].choice_count) == ("ImageScaleBy", 5)


async def test_words_with_a_dot_are_searched_for(call: Bench) -> None:
    for query in ("scale. An image", "ImageScaleBy.nothing"):
        assert (await call("find_nodes", query=query)).total > 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ImageScaleBi", "Nearest: ImageScaleBy"),
        ("Zzzz", "no node class 'Zzzz'."),
        ("ImageScaleBy.method", "has no input 'method'"),
    ],
)
async def test_a_name_that_no_class_has_is_an_error(call: Bench, name: str, message: str) -> None:
    with pytest.raises(NotFound, match=message):
        await call("find_nodes", name=name)


async def test_a_cursor_of_somebody_else_is_refused(call: Bench) -> None:
    for cursor in ("?", "WyJhIl0"):
        with pytest.raises(InvalidInput):
            await call("find_nodes", cursor=cursor)


async def test_without_an_engine_nobody_knows(call: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing() -> NodeLists:
        return NodeLists({})

    monkeypatch.setattr(call.services.engines, "node_lists", nothing)
    with pytest.raises(EngineUnreachable, match="node classes are not known"):
        await call("find_nodes", query="scale")


def test_newer_declarations_show_their_choices() -> None:
    dynamic = _one(node_list(), "SaveVideo.format", 200, 0).nodes[0].inputs[0]
    assert "mp4" in dynamic.choices
    listed = _one(node_list(), "LoadImage", 20, 0).nodes[0]
    assert listed.inputs[0].type == "COMBO"
    assert _one(node_list(), "KSampler", 20, 0).nodes[0].about
    odd = ObjectInfo.parse(
        {"Odd": {"input": {"required": {"a": [3]}}, "output": [["A"]], "description": "x" * 999}}
    )
    found = _one(odd, "Odd", 20, 0).nodes[0]
    assert (found.inputs[0].type, found.outputs) == ("?", ["?"])
    assert len(found.about or "") == 200
