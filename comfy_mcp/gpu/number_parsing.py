"""Numbers that drivers and engines say, looked at before they are believed."""

import math

MAX_COUNT = 2**53 - 1
"""Greater ones are no counts: JSON readers and databases don't take them."""


def count(value: object) -> int | None:
    """None for what is no number, negative, or beyond all bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if math.isfinite(value) and 0 <= value <= MAX_COUNT else None


def whole_and_part(whole: object, part: object) -> tuple[int | None, int | None]:
    """A part that is more than its whole says nothing."""
    total, some = count(whole), count(part)
    return total, None if total is not None and some is not None and some > total else some
