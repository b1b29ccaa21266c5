"""Workflows of the bridge's own run on a ComfyUI that has what they need."""

import copy
from functools import cache
from typing import Any

import pytest

from comfy_mcp.domain.judging import judge
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.parameters import parameters_of
from comfy_mcp.domain.starters import checkpoints_of, family_of, starter, starters_of
from tests.editor.recorded import load

RAW: dict[str, dict[str, Any]] = {
    version: load(f"object_info_{version}.json.gz") for version in ("0.3.75", "0.33.0")
}
NAMES = ("text-to-image", "image-to-image", "inpaint", "upscale")


@cache
def engine(*checkpoints: str, version: str = "0.33.0", without: str | None = None) -> ObjectInfo:
    raw = dict(RAW[version])
    raw["CheckpointLoaderSimple"] = loader = copy.deepcopy(raw["CheckpointLoaderSimple"])
    loader["input"]["required"]["ckpt_name"][0] = list(checkpoints)
    if without is not None:
        del raw[without]
    return ObjectInfo.parse(raw)


@pytest.mark.parametrize("version", RAW)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "checkpoint", ["dreamshaper_8.safetensors", "flux1-dev-fp8.safetensors", "sd_xl_base_1.0.safetensors"]
)
def test_a_starter_would_run_but_for_the_files_that_a_caller_brings(
    version: str, name: str, checkpoint: str
) -> None:
    info = engine(checkpoint, version=version)
    graph = starter(name, info)
    judged = judge(graph, info)
    assert judged.report.error() is None
    assert not judged.report.missing
    assert all("'image'" in warning for warning in judged.report.warnings), judged.report.warnings
    needed = {each.name for each in parameters_of(judged.graph, info) if each.needs_value}
    assert needed == {"text-to-image": set(), "inpaint": {"image", "mask"}}.get(name, {"image"})


@pytest.mark.parametrize(
    ("file", "family"),
    [
        ("dreamshaper_8.safetensors", "SD 1.5"),
        ("flux1-schnell-fp8.safetensors", "FLUX schnell"),
        ("flux1-dev-fp8.safetensors", "FLUX"),
        ("sd3.5_large.safetensors", "SD 3"),
        ("sd_xl_turbo_1.0_fp16.safetensors", "SDXL Turbo"),
        ("juggernautXL_lightning.safetensors", "SDXL Lightning"),
        ("juggernautXL_v9.safetensors", "SDXL"),
        ("v2-1_768-ema-pruned.safetensors", "SD 2"),
    ],
)
def test_the_name_of_a_file_tells_the_family(file: str, family: str) -> None:
    assert family_of(file).title == family


def test_the_checkpoint_decides_size_and_steps() -> None:
    info = engine("a.ckpt", "sub/My_XL.safetensors")
    first, other = starter("text-to-image", info), starter("text-to-image", info, "sub/My_XL.safetensors")
    assert first is not None
    assert other is not None
    assert (first["ckpt"]["inputs"]["ckpt_name"], first["size"]["inputs"]["width"]) == ("a.ckpt", 512)
    assert (other["ckpt"]["inputs"]["ckpt_name"], other["size"]["inputs"]["width"]) == (
        "sub/My_XL.safetensors",
        1024,
    )


@pytest.mark.parametrize(
    ("asked", "used"),
    [
        ("my_xl", "sub/My_XL.safetensors"),
        ("SUB/MY_XL.SAFETENSORS", "sub/My_XL.safetensors"),
        ("not-there.safetensors", "not-there.safetensors"),  # refused later on, with what is there
        ("sdxl", "a.ckpt"),
        ("", "a.ckpt"),
        (7, "a.ckpt"),
    ],
)
def test_a_checkpoint_is_meant_in_any_spelling(asked: object, used: str) -> None:
    made = starter("text-to-image", engine("a.ckpt", "sub/My_XL.safetensors"), asked)
    assert made is not None
    assert made["ckpt"]["inputs"]["ckpt_name"] == used


def test_a_checkpoint_for_inpainting_is_for_inpainting() -> None:
    info = engine("a-inpainting.ckpt", "b.ckpt", "ace_step_v1.safetensors")
    assert checkpoints_of(info) == ["b.ckpt", "a-inpainting.ckpt"]
    chosen = {
        name: graph["ckpt"]["inputs"]["ckpt_name"] for name in NAMES[:3] if (graph := starter(name, info))
    }
    assert chosen == {"text-to-image": "b.ckpt", "image-to-image": "b.ckpt", "inpaint": "a-inpainting.ckpt"}
    only = starter("inpaint", engine("b.ckpt"))
    assert only is not None
    assert only["ckpt"]["inputs"]["ckpt_name"] == "b.ckpt"


def test_what_an_engine_can_t_run_is_not_offered() -> None:
    assert starter("no-such", engine("a.ckpt")) is None
    assert starter("text-to-image", engine()) is None
    assert starter("upscale", engine()) is not None
    assert starter("text-to-image", engine("a.ckpt", without="KSampler")) is None
    assert [each.name for each in starters_of(engine("a.ckpt", without="KSampler"))] == ["upscale"]
    assert checkpoints_of(ObjectInfo.parse({})) == []
    assert starters_of(None) == ()


def test_an_entry_names_the_checkpoint() -> None:
    with_one, without = starters_of(engine("a.ckpt"))[0], starters_of(engine())[0]
    assert with_one.about.endswith("With a.ckpt (SD 1.5).")
    assert without.about == "A picture from a text."
    assert with_one.whole_name == "starter:text-to-image"
