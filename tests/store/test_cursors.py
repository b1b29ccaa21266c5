"""A cursor comes back from strangers: whatever it is, it is a place or it is refused."""

import base64
import json

from hypothesis import example, given
from hypothesis import strategies as st

from comfy_mcp.domain.cursors import cursor_of
from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.store.queries import seq_of

SEQS = st.integers(0, 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("before"), inner),
)


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def place_or_none(cursor: str) -> int | None:
    """What `seq_of` says; a refusal has its code and its advice."""
    refusal = None
    try:
        return seq_of(cursor)
    except InvalidInput as error:
        refusal = error
    assert refusal.code is ErrorCode.INVALID_ARGUMENT
    assert refusal.next_step
    return None


@given(SEQS)
def test_a_cursor_that_was_given_out_names_its_place(seq: int) -> None:
    assert seq_of(cursor_of({"before": seq})) == seq


@given(st.text())
@example("")
@example("\ud800")
@example("A" * 5)
def test_any_text_is_a_place_within_bounds_or_refused(text: str) -> None:
    place = place_or_none(text)
    assert place is None or 0 <= place < 2**63


@given(JSON)
@example({"before": True})
@example({"before": -1})
@example({"before": 2**63})
@example({"before": 1.0})
@example({"before": float("inf")})
def test_any_document_in_a_cursors_clothes_is_taken_only_for_its_number(value: object) -> None:
    place = place_or_none(encoded(value))
    before = value.get("before") if isinstance(value, dict) else None
    fits = type(before) is int and 0 <= before < 2**63
    assert place == (before if fits else None)


@given(SEQS, st.data())
def test_a_cursor_with_one_character_changed_is_another_place_or_refused(
    seq: int, data: st.DataObject
) -> None:
    cursor = cursor_of({"before": seq})
    at = data.draw(st.integers(0, len(cursor) - 1))
    changed = cursor[:at] + data.draw(st.characters()) + cursor[at + 1 :]
    place = place_or_none(changed)
    assert place is None or 0 <= place < 2**63


def test_a_document_too_deep_to_read_is_refused() -> None:
    assert place_or_none(base64.urlsafe_b64encode(b"[" * 100_000).decode()) is None
