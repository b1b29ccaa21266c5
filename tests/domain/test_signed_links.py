"""Signed links: for one output, until a time, and for nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.signed_links import LINK_S, holds, signature

KEY, ID, NOW = b"k" * 32, "3902308d-7cc0-4a3c-8bdf-9683a88bf932", 1_000_000
GOOD = signature(KEY, ID, NOW + 10)


@pytest.mark.parametrize(
    ("output_id", "expires", "given", "now", "good"),
    [
        (ID, str(NOW + 10), GOOD, NOW, True),
        (ID, str(NOW + 10), GOOD, NOW + 9, True),
        (ID, str(NOW + 10), GOOD, NOW + 10, False),
        (ID, str(NOW + 11), GOOD, NOW, False),
        (f"{ID[:-1]}3", str(NOW + 10), GOOD, NOW, False),
        (ID, str(NOW + 10), GOOD[:-1], NOW, False),
        (ID, str(NOW + 10), "", NOW, False),
        (ID, str(NOW + 10), "ü", NOW, False),
        (ID, "", GOOD, NOW, False),
        (ID, "-1", GOOD, NOW, False),
        (ID, "1e9", GOOD, NOW, False),
        (ID, "٣", GOOD, NOW, False),
        (ID, "9" * 13, GOOD, NOW, False),
        (ID, str(NOW + 2 * LINK_S), signature(KEY, ID, NOW + 2 * LINK_S), NOW, False),
    ],
)
def test_when_a_link_is_good(output_id: str, expires: str, given: str, now: int, good: bool) -> None:
    assert holds(KEY, output_id, expires, given, now=now) is good


@given(st.binary(min_size=32, max_size=32), st.text(max_size=40), st.text(max_size=60))
def test_nothing_else_opens_it(key: bytes, expires: str, given: str) -> None:
    assert not holds(key, ID, expires, given, now=NOW) or (key, expires, given) == (KEY, str(NOW + 10), GOOD)
