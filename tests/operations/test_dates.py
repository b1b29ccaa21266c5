"""Dates as people write them."""

import pytest

from comfy_mcp.operations.dates import ms_of

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01", 0),
        ("1970-01-02T00:00:00+01:00", DAY_MS - 3_600_000),
        ("2026-11-30", 1_795_996_800_000),
        ("2026-11-30 11:00:00.250Z", 1_796_036_400_250),
    ],
)
def test_a_date_is_that_of_utc_unless_it_says_another_zone(text: str, ms: int) -> None:
    assert ms_of(text) == ms


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-45", "30.11.2026"])
def test_what_is_no_date_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ms_of(text)
