"""JSON by Python code is the same JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain import large_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture(autouse=True)
def _all_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_json, "LARGE_BYTES", -1)


@given(VALUES)
def test_it_is_written_and_parsed_as_the_library_does(value: Any) -> None:
    text = json.dumps(value, separators=(",", ":"))
    for large in (False, True):
        assert large_json.dumps(value, large=large) == text
    assert large_json.loads(text) == json.loads(text) == value


@given(VALUES)
def test_a_strict_text_has_all_characters_and_no_infinity(value: Any) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = ""
    for large in (False, True):
        if text:
            assert large_json.strict_text(value, large=large) == text
        else:
            with pytest.raises(ValueError, match="not JSON compliant"):
                large_json.strict_text(value, large=large)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
@pytest.mark.parametrize("large", [True, False])
def test_what_json_has_no_number_for_is_no_strict_text(value: object, large: bool) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        large_json.strict_text(value, large=large)


@given(VALUES)
def test_equal_values_have_the_same_sorted_text(value: Any) -> None:
    for large in (False, True):
        assert large_json.sorted_text(value, large=large) == json.dumps(value, sort_keys=True)


@given(st.text(st.sampled_from('[]{}",:0123456789.eE-+ \\utfnrlasNI\n')))
def test_what_is_no_json_is_refused_by_both(text: str) -> None:
    """In nearly the same words: the library's Python code counts some columns from another character."""

    def outcome(parse: Any) -> object:
        try:
            return repr(parse(text, parse_constant=lambda name: name))
        except ValueError:
            return "refused"

    assert outcome(large_json.loads) == outcome(json.loads)


def test_small_text_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_json, "LARGE_BYTES", 2)
    assert large_json.loads("[]") == []


@pytest.mark.parametrize(
    ("value", "large"),
    [
        ("x" * 100, False),
        ([1] * 5, False),
        ([1] * 11, True),
        ({"a": {str(number): number for number in range(11)}}, True),
        ([[[1, 2]], {"a": "x" * 50}], False),
        ([[[]] * 6, [[]] * 5], True),
    ],
)
def test_large_is_what_holds_many_values(value: object, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_json, "LARGE_VALUES", 10)
    assert large_json.is_large(value) is large
