"""Hints, and what must not be shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.nearest import nearest
from comfy_mcp.domain.redaction import REDACTED, redact

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


def test_known_secrets_are_replaced_and_the_rest_is_kept() -> None:
    body = {
        "prompt": {
            "1": {"class_type": "CivitaiLoader", "inputs": {"api_key": "k1", "model": "m", "hf_token": "k2"}},
            "2": {"class_type": "X", "inputs": {"api_key": ["1", 0], "password": "", "steps": 20}},
        },
        "extra_data": {"api_key_comfy_org": "k3", "auth_token_comfy_org": "k4", "note": ("a", "b")},
        "list": [{"Authorization": "Bearer k5"}, 3],
    }
    shown = redact(body)
    assert not any(f"k{number}" in repr(shown) for number in range(1, 6))
    assert shown["prompt"]["1"]["inputs"] == {"api_key": REDACTED, "model": "m", "hf_token": REDACTED}
    assert shown["prompt"]["2"] == body["prompt"]["2"]  # type: ignore[index]
    assert shown["extra_data"]["note"] == ["a", "b"]
    assert shown["list"] == [{"Authorization": REDACTED}, 3]


def test_redaction_changes_a_copy() -> None:
    body = {"inputs": {"api_key": "k1"}}
    redact(body)
    assert body == {"inputs": {"api_key": "k1"}}


@pytest.mark.parametrize(
    "name", ["api_key", "apikey", "API_KEY", "openai_api_key", "secret", "client_secret", "token", "hf_token"]
)
def test_names_like_a_secret_are_taken_for_one(name: str) -> None:
    assert redact({name: "x"}) == {name: REDACTED}


@pytest.mark.parametrize(
    "name", ["tokens", "max_tokens", "token_count", "tokenizer", "secretary", "key", "keyframe", "author"]
)
def test_names_that_only_begin_like_a_secret_are_shown(name: str) -> None:
    assert redact({name: "x"}) == {name: "x"}
