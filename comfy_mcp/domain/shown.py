"""Values in a sentence for people: bounded, whatever they hold, in length and in the work that they take."""

from collections.abc import Iterator, Mapping, Sequence

MAX_CHARS = 80
MAX_VALUES = 10


def shown(value: object) -> str:
    """As Python writes it; an ellipsis stands for the rest of a long one, which is not looked at."""
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > MAX_CHARS:
            return f"{text[:MAX_CHARS]}…"
    return text


def all_shown(values: Sequence[object]) -> str:
    """The first of them, and how many more there are."""
    text = ", ".join(map(shown, values[:MAX_VALUES]))
    more = len(values) - MAX_VALUES
    return f"{text} and {more} more" if more > 0 else text


def _pieces(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield "{"
        for at, (name, each) in enumerate(value.items()):
            yield f"{', ' if at else ''}{next(_pieces(name))}: "
            yield from _pieces(each)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for at, each in enumerate(value):
            yield ", " if at else ""
            yield from _pieces(each)
        yield "]"
    else:
        yield repr(value[: MAX_CHARS + 1] if isinstance(value, str) else value)


def counted(sentences: Sequence[str], most: int, of: str = "warnings") -> tuple[str, ...]:
    """The first of them, and one more that counts the others. `of`: what each is about."""
    more = len(sentences) - most
    return (*sentences[:most], f"And {more} more {of}.") if more > 0 else tuple(sentences)


def first_sentences(sentences: Sequence[str], of: str) -> str:
    """The same as one text."""
    return " ".join(counted(sentences, MAX_VALUES, of))
