"""A cursor is what was put into it, or refused."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.cursors import cursor_of, position_in
from comfy_mcp.domain.errors import ErrorCode, InvalidInput


@given(st.recursive(st.none() | st.integers() | st.text("aé☃", max_size=9), st.lists, max_leaves=9))
def test_a_position_survives_the_way_there_and_back(position: object) -> None:
    assert position_in(cursor_of(position)) == position


@pytest.mark.parametrize(
    "cursor",
    ["", "%", "é", "\ud800", "A" * 5, "bm8", base64.urlsafe_b64encode(b"[" * 100_000).decode()],
)
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        position_in(cursor)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert refused.value.next_step
