"""Values of a workflow in a sentence for people: bounded, whatever they hold."""

from collections.abc import Sequence

MAX_CHARS = 80
MAX_VALUES = 10


def shown(value: object) -> str:
    """As Python writes it; an ellipsis stands for the rest of a long one."""
    text = repr(value)
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}…"


def all_shown(values: Sequence[object]) -> str:
    """The first of them, and how many more there are."""
    text = ", ".join(map(shown, values[:MAX_VALUES]))
    more = len(values) - MAX_VALUES
    return f"{text} and {more} more" if more > 0 else text
