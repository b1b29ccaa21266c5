"""What a job is called when nobody named it."""

from typing import Any

import pytest

from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.job_names import LONGEST, MAX_STEPS, prompt_words, purpose
from tests.domain.test_parameters import TINY
from tests.support.graphs import picture


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def test_a_job_is_called_by_the_first_words_of_its_prompt() -> None:
    assert prompt_words(parse_graph(TINY)) == "blurry", "the text that is there"
    positive = dict(TINY) | {
        "10": node("X"),
        "6": node("E", text=" a   red fox in the snow under a very blue sky "),
        "3": node("KSampler", positive=["6", 0], negative=["7", 0]),
    }
    assert prompt_words(parse_graph(positive)) == "a red fox in the snow under a"
    assert prompt_words(parse_graph({"1": node("KSampler", positive=["9", 0])})) is None


UPSCALED = {
    "1": node("UpscaleModelLoader", model_name="x4.pth"),
    "2": node("LoadImage", image="cat.png"),
    "3": node("ImageUpscaleWithModel", image=["2", 0], upscale_model=["1", 0]),
}


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("fox poster", "fox poster"),
        ("art/2026\\fox_%date:yyyy%", "fox"),
        ("x" * 500, "x" * LONGEST),
        ("ComfyUI", "ImageUpscaleWithModel → SaveImage"),
        ("video/ComfyUI", "ImageUpscaleWithModel → SaveImage"),
        ("%year%", "ImageUpscaleWithModel → SaveImage"),
        ("", "ImageUpscaleWithModel → SaveImage"),
        (["2", 0], "ImageUpscaleWithModel → SaveImage"),
    ],
)
def test_a_job_without_a_prompt_is_called_by_its_files_or_by_what_it_does(prefix: Any, expected: str) -> None:
    graph = UPSCALED | {"4": node("SaveImage", images=["3", 0], filename_prefix=prefix)}
    assert purpose(parse_graph(graph)) == expected


def test_what_saves_files_says_more_than_a_preview() -> None:
    graph = {"0": node("PreviewImage", images=["2", 0])} | UPSCALED
    graph |= {"4": node("SaveImage", images=["3", 0], filename_prefix="large")}
    assert purpose(parse_graph(graph)) == "large"


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"1": node("PreviewAny", source="a")}, "PreviewAny"),
        ({"1": node("SaveImage", images=["gone", 0])}, "SaveImage"),
        ({"1": node("A", a=["2", 0]), "2": node("B", b=["1", 0])}, None),
        (
            {
                "1": node("KSampler"),
                "2": node("VAEDecode", s=["1", 0]),
                "3": node("PreviewImage", i=["2", 0]),
            },
            "KSampler → PreviewImage",
        ),
        ({"1": node("VAEDecode"), "2": node("PreviewImage", i=["1", 0])}, "VAEDecode → PreviewImage"),
    ],
)
def test_any_graph_has_a_name_that_has_an_end(graph: dict[str, Any], expected: str | None) -> None:
    assert purpose(parse_graph(graph)) == expected


def test_a_long_way_back_is_given_up() -> None:
    chain = {str(at): node("Reroute", x=[str(at + 1), 0]) for at in range(MAX_STEPS * 2)}
    assert purpose(parse_graph(chain)) == "Reroute → Reroute"


def test_the_tests_own_picture_has_a_name() -> None:
    assert purpose(parse_graph(picture())) is not None
