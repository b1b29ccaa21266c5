"""What must not be shown."""

import pytest

from comfy_mcp.domain.redaction import (
    HIDDEN,
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_MEMBERS,
    MAX_VALUE_CHARS,
    MAX_VALUES,
    names_a_secret,
    without_secrets,
    without_values,
)


def test_known_secrets_are_replaced_and_the_rest_is_kept() -> None:
    body = {
        "prompt": {
            "1": {"class_type": "CivitaiLoader", "inputs": {"api_key": "k1", "model": "m", "hf_token": "k2"}},
            "2": {"class_type": "X", "inputs": {"steps": 20, "seed": None}},
        },
        "extra_data": {"api_key_comfy_org": "k3", "auth_token_comfy_org": "k4", "note": ["a", "b"]},
        "list": [{"Authorization": "Bearer k5"}, 3],
        7: "a number as a name",
    }
    before = repr(body)
    shown = without_secrets(body)
    assert repr(body) == before
    assert not any(f"k{number}" in repr(shown) for number in range(1, 6))
    assert shown == {
        "prompt": {
            "1": {
                "class_type": "CivitaiLoader",
                "inputs": {"api_key": HIDDEN, "model": "m", "hf_token": HIDDEN},
            },
            "2": {"class_type": "X", "inputs": {"steps": 20, "seed": None}},
        },
        "extra_data": {"api_key_comfy_org": HIDDEN, "auth_token_comfy_org": HIDDEN, "note": ["a", "b"]},
        "list": [{"Authorization": HIDDEN}, 3],
        "7": "a number as a name",
    }


def test_the_copy_is_bounded_in_every_direction() -> None:
    assert len(str(without_secrets("x" * 10_000))) == MAX_VALUE_CHARS + 1
    assert without_secrets(list(range(1_000))) == list(range(MAX_ITEMS))
    wide = without_secrets({str(number): number for number in range(1_000)})
    assert isinstance(wide, dict)
    assert len(wide) == MAX_MEMBERS
    deep: object = "bottom"
    for _ in range(1_000):
        deep = [deep]
    assert repr(without_secrets(deep)).count("[") == MAX_DEPTH + 1
    many: object = 1
    for _ in range(MAX_DEPTH):
        many = [many] * MAX_ITEMS
    assert repr(without_secrets(many)).count("1") <= MAX_VALUES
    assert len(str(without_secrets({"k" * 10_000: 1}))) < 2 * MAX_VALUE_CHARS


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "apikey",
        "API_KEY",
        "openai_api_key",
        "secret",
        "client_secret",
        "token",
        "hf_token",
        "key",
        "X-API-Key",
    ],
)
def test_names_like_a_secret_are_taken_for_one(name: str) -> None:
    assert names_a_secret(name)


@pytest.mark.parametrize("name", ["keyframe", "author", "seed", "monkey", "prompt"])
def test_other_names_are_shown(name: str) -> None:
    assert not names_a_secret(name)


def test_known_values_are_replaced_wherever_they_stand() -> None:
    assert without_values("a key=k1; k1 and k2", ("k1", "k2")) == f"a key={HIDDEN}; {HIDDEN} and {HIDDEN}"
