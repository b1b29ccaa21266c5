"""The node lists of several engines, and all together."""

from typing import Any

from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.node_lists import NodeLists
from comfy_mcp.domain.object_info import ObjectInfo

A, B = EngineId("a"), EngineId("b")


def loader(*files: str, **more: Any) -> dict[str, Any]:
    inputs = {"name": [list(files)], "steps": ["INT", {}], **more}
    return {"input": {"required": inputs}, "output": ["MODEL"], "python_module": "nodes"}


def listed(**classes: Any) -> ObjectInfo:
    return ObjectInfo.parse(classes)


def test_one_list_is_all_there_is() -> None:
    info = listed(Load=loader("a.ckpt"))
    assert NodeLists({A: info}).all is info
    assert NodeLists({A: info, B: info}).all is info
    assert NodeLists({}).all is None
    assert (len(NodeLists({A: info})), NodeLists({A: info})[A]) == (1, info)


def test_all_have_the_classes_and_choices_of_each() -> None:
    many = [f"{number}.ckpt" for number in range(100)]
    dynamic = {"way": ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "x", "inputs": {}}]}]}
    other = {"way": ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "y", "inputs": {}}]}]}
    first = listed(Load=loader(*many, **dynamic), Paid={"input": {}, "api_node": True}, Both=loader())
    second = ObjectInfo.parse(
        {
            "Load": loader("0.ckpt", "b.ckpt", **other),
            "Rare": {"input": {}, "output": ["X"]},
            "Both": loader(),
        },
        replaceable=["Old"],
    )
    together = NodeLists({A: first, B: second}).all
    assert together is not None
    assert {*together.classes} == {"Load", "Paid", "Both", "Rare", "Old"}
    name = together.classes["Load"].inputs["name"]
    assert name.options == (*many, "b.ckpt")
    assert name.lists("b.ckpt")
    assert together.classes["Load"].inputs["way"].options == ("x",)
    assert together.classes["Both"] is first.classes["Both"]
    assert together.model_files == {*many, "b.ckpt"}
    assert ({*together.given_kinds}, {*together.replaced}) == ({"MODEL", "X"}, {"Old"})
    assert {*together.partner_classes} == {"Paid"}


def test_they_are_the_same_while_no_engine_gives_another() -> None:
    info, new = listed(Load=loader()), listed(Load=loader())
    lists = NodeLists({A: info, B: info})
    assert lists.same_as({A: info, B: info})
    assert not lists.same_as({A: info, B: new})
    assert not lists.same_as({B: info, A: info})
    assert not lists.same_as({A: info})
