"""Days in UTC, of epoch milliseconds."""

DAY_MS = 86_400_000


def day_of(at: int) -> int:
    """The number of the day."""
    return at // DAY_MS


def day_end(at: int) -> int:
    """When it ends."""
    return (day_of(at) + 1) * DAY_MS
