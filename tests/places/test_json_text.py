"""Whatever an engine sends as JSON, every string of it can be encoded and stored."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.places.json_text import parse
from comfy_mcp.store.codec import storable

ANY_TEXT = st.text(st.characters(exclude_categories=()) | st.sampled_from('\ud83d\ude00\0\\u"d'))
ANY_VALUE = st.recursive(
    ANY_TEXT | st.none() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner)
)


def stored(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case list():
            return [stored(each) for each in value]
        case dict():
            return {stored(key): stored(each) for key, each in value.items()}
        case _:
            return value


@given(ANY_VALUE)
def test_every_string_comes_out_as_the_store_would_keep_it(value: Any) -> None:
    assert parse(json.dumps(value)) == stored(value)


@given(st.binary())
def test_bytes_that_are_not_utf8_are_a_value_or_no_json(garbage: bytes) -> None:
    text = (
        parse(b'["' + garbage.replace(b'"', b"").replace(b"\\", b"") + b'"]') if garbage.isalnum() else [""]
    )
    assert text[0].encode() is not None


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert parse(b"\xef\xbb\xbf[1]") == [1]


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (rb'"half \ud83d"', "half �"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\ud83d\ud83d\ude00"', "�\U0001f600"),
        (rb'"\\ud83d"', r"\ud83d"),
        (rb'"\\ud83d\ude00"', "\\ud83d�"),
        (rb'"\\\ud83d"', "\\�"),
        (rb'"a\u0000b"', "a�b"),
        (b'"caf\xe9.png"', "caf�.png"),
    ],
)
def test_half_characters_nul_and_other_bytes_are_replaced(sent: bytes, text: str) -> None:
    assert parse(sent) == text


@pytest.mark.parametrize("sent", [b"", b"{", b"<html>", b"[" * 100_000, b"1" * 5_000])
def test_what_is_no_json_is_refused(sent: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        parse(sent)
