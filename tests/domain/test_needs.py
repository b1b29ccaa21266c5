"""What a workflow needs of a place."""

from dataclasses import replace

import pytest

from comfy_mcp.domain import needs as needs_module
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.needs import Equipment, Lack, Needs, Wish, needs_of
from comfy_mcp.domain.object_info import ObjectInfo

GRAPH = parse_graph(
    {
        "1": {"class_type": "Loader", "inputs": {"name": "sd\\\\a.safetensors", "more": [{"lora": "b.pt"}]}},
        "2": {"class_type": "Save", "inputs": {"images": ["1", 0], "text": "v1.0 of it"}},
        "3": {"class_type": "Save", "inputs": {"images": ["1", 0]}},
    }
)


def test_classes_and_model_files_are_named_once_and_sorted() -> None:
    needs = needs_of(GRAPH)
    assert needs.node_classes == ("Loader", "Save")
    assert needs.models == ("b.pt", "sd//a.safetensors")
    assert len(needs.shape) == 32


def test_an_engine_fits_that_has_the_classes_or_has_told_none() -> None:
    needs = needs_of(GRAPH)
    engine = Equipment(engine=EngineId("a"))
    assert needs.met_by(engine)
    assert needs.met_by(replace(engine, nodes=ObjectInfo.parse({"Loader": {}, "Save": {}, "More": {}})))
    assert not needs.met_by(replace(engine, nodes=ObjectInfo.parse({"Loader": {}})))


# ------------------------------------------------------------------------------- what an engine lacks

LISTS = ObjectInfo.parse(
    {
        "Load": {"input": {"required": {"name": [["sdxl\\base.safetensors", "sd15.ckpt", "a.png"]]}}},
        "Choose": {
            "input": {
                "required": {
                    "kind": [
                        "COMFY_DYNAMICCOMBO_V3",
                        {
                            "options": [
                                {"key": "x", "inputs": {"required": {"lora": [["style.safetensors"]]}}}
                            ]
                        },
                    ]
                },
                "optional": {
                    "many": [
                        "COMFY_AUTOGROW_V3",
                        {
                            "template": {
                                "input": {"required": {"one": [["many.pt"]]}},
                                "prefix": "m",
                                "max": 3,
                            }
                        },
                    ]
                },
            }
        },
    }
)
HAS = Equipment(engine=EngineId("a"), nodes=LISTS, labels=frozenset({"fast", "eu"}))


def test_model_files_are_found_in_every_list_of_an_engine() -> None:
    assert LISTS.model_files == {"sdxl/base.safetensors", "sd15.ckpt", "style.safetensors", "many.pt"}


def test_only_files_that_the_judging_engine_lists_are_asked_of_others() -> None:
    needs = Needs(node_classes=("Load",), models=("name.safetensors", "sd15.ckpt"), shape="s")
    assert needs.judged_by(LISTS).files == ("sd15.ckpt",)
    assert needs.judged_by(None).files == ()
    bare = replace(HAS, nodes=ObjectInfo.parse({"Load": {}}))
    assert needs.judged_by(LISTS).lack(bare) == Lack(engine=HAS.engine, files=("sd15.ckpt",))
    assert needs.judged_by(LISTS).met_by(HAS)


@pytest.mark.parametrize(
    ("wish", "lack"),
    [
        (Wish(), None),
        (Wish(engine=EngineId("a"), labels=("fast",), not_on=(EngineId("b"),)), None),
        (Wish(engine=EngineId("b")), Lack(engine=EngineId("a"), other=True)),
        (Wish(not_on=(EngineId("a"),)), Lack(engine=EngineId("a"), other=True)),
        (Wish(labels=("slow", "fast")), Lack(engine=EngineId("a"), labels=("slow",))),
    ],
)
def test_what_was_asked_for_is_kept_to(wish: Wish, lack: Lack | None) -> None:
    needs = Needs(node_classes=("Load",), models=(), shape="s", wish=wish)
    assert needs.lack(HAS) == lack
    assert wish.allows(HAS) is (lack is None)
    assert bool(wish) is (wish != Wish())


def test_the_key_names_all_that_an_engine_must_have_and_nothing_else() -> None:
    needs = Needs(node_classes=("Load",), models=("m.ckpt",), shape="s")
    assert needs.key == replace(needs, models=(), shape="t").key
    others = [
        replace(needs, node_classes=("Save",)),
        replace(needs, files=("m.ckpt",)),
        replace(needs, wish=Wish(engine=EngineId("a"))),
        replace(needs, wish=Wish(labels=("a",))),
        replace(needs, wish=Wish(not_on=(EngineId("a"),))),
    ]
    assert len({needs.key, *(other.key for other in others)}) == 6


def test_no_digest_of_many_names_is_kept() -> None:
    before = needs_module._kept_digest.cache_info().currsize
    many = Needs(node_classes=("x" * (needs_module.MOST_KEPT + 1),), models=(), shape="s")
    assert len(many.key) == len(replace(many, node_classes=("x",)).key) == 32
    assert many.key != replace(many, files=("m.ckpt",)).key
    assert needs_module._kept_digest.cache_info().currsize <= before + 1
