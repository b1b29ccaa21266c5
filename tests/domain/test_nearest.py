"""Hints: the nearest known names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.nearest import nearest

CLASSES = (
    "KSampler",
    "KSamplerAdvanced",
    "SaveImage",
    "SaveLatent",
    "PreviewImage",
    "EmptyImage",
    "VAEDecode",
)
MODELS = ("sd_xl_base_1.0.safetensors", "SD15/v1-5-pruned.ckpt", "flux1-dev.safetensors", "tiny.ckpt")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("KSamler", "KSampler"),
        ("ksampler", "KSampler"),
        ("SvaeImage", "SaveImage"),
        ("Save Image", "SaveImage"),
        ("VaeDecoder", "VAEDecode"),
    ],
)
def test_a_misspelt_class_finds_the_one_meant(wrong: str, right: str) -> None:
    assert nearest(wrong, CLASSES)[0] == right


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("sdxl_base.safetensors", "sd_xl_base_1.0.safetensors"),
        ("v1-5-pruned.safetensors", "SD15/v1-5-pruned.ckpt"),
        ("flux1 dev", "flux1-dev.safetensors"),
        ("tiny.pt", "tiny.ckpt"),
    ],
)
def test_a_model_is_found_whatever_its_folder_separators_or_suffix(wrong: str, right: str) -> None:
    assert nearest(wrong, MODELS)[0] == right


def test_two_pluses_are_two_letters() -> None:
    assert nearest("DPM++ 2M Karras", ["dpm_2", "dpmpp_2m", "dpmpp_sde"])[0] == "dpmpp_2m"


@pytest.mark.parametrize("wrong", ["", "zzz", "Q", "NoSuchNodeType", "???"])
def test_nothing_alike_gives_no_hint(wrong: str) -> None:
    assert nearest(wrong, CLASSES) == ()


def test_a_short_name_inside_a_long_one_is_no_likeness() -> None:
    assert nearest("ab", ("cabinet of curiosities",)) == ()


def test_there_are_at_most_so_many_hints_and_the_best_comes_first() -> None:
    known = [f"model-{number}.ckpt" for number in range(50)]
    assert nearest("model-7", known, limit=2)[0] == "model-7.ckpt"
    assert len(nearest("model-7", known, limit=2)) == 2


@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=10), st.integers(0, 4))
def test_hints_are_always_known_names_and_a_known_name_is_its_own_hint(
    name: str, known: list[str], limit: int
) -> None:
    hints = nearest(name, known, limit)
    assert set(hints) <= set(known)
    assert len(hints) <= limit
    assert name in nearest(name, [*known, name], limit=len(known) + 1)
