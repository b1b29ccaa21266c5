"""Days in UTC, of epoch milliseconds."""

from datetime import UTC, datetime

DAY_MS = 86_400_000


def day_of(at: int) -> int:
    """The number of the day."""
    return at // DAY_MS


def day_end(at: int) -> int:
    """When it ends."""
    return (day_of(at) + 1) * DAY_MS


def ms_of(date: str) -> int:
    """The epoch milliseconds of a date or a time as in ISO 8601, in UTC where it names no zone. Raises
    ValueError."""
    found = datetime.fromisoformat(date)
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
