"""Check numbers from drivers and engines before they are used."""

import math

MAX_COUNT = 2**53 - 1
"""Greater ones are no counts: JSON readers and databases don't take them."""


def count(value: object) -> int | None:
    """The number; None if it is not a number, negative, or out of bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if math.isfinite(value) and 0 <= value <= MAX_COUNT else None


def whole_and_part(whole: object, part: object) -> tuple[int | None, int | None]:
    """The part; None if it is more than its whole."""
    total, some = count(whole), count(part)
    return total, None if total is not None and some is not None and some > total else some
