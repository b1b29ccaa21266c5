"""Dates as people write them."""

from datetime import UTC, datetime


def ms_of(date: str) -> int:
    """The epoch milliseconds of a date or a time as in ISO 8601, in UTC where it names no zone. Raises
    ValueError."""
    found = datetime.fromisoformat(date)
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
