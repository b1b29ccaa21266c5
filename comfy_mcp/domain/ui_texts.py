"""What the editor makes of a text in the moment of sending.

Of a prompt it cuts comments (`// …` to the end of the line, `/* … */`), and draws one of the variants
`{red|blue}`, anew each time. In the name of a file it fills in the date (`%date:yyyy-MM-dd%`) and the
values of other nodes' controls (`%Node.input%`). Compared with the editor at a fixed date (tests/editor).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

NOT_FILLED = frozenset(
    {
        *("CheckpointSave", "ImageOnlyCheckpointSave", "LossGraphNode", "SaveText"),
        *("SaveImageDataSetToFolder", "SaveImageTextDataSetToFolder"),
    }
)
"""Classes in whose `filename_prefix` the editor fills nothing in."""

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_TO_LINE_END = re.compile(r"//[^\n]*")
_MARK = re.compile(r"\\.|[{}|]", re.DOTALL)
_ESCAPED = re.compile(r"\\([{}|])")
_FILLED = re.compile(r"%([^%]+)%")
_DATE = "date:"
_DATE_PART = re.compile(r"yyy?y?|([dMhms])\1?")
_SHOWN = 80

_ILLEGAL = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
"""What no name of a file has; the editor puts `_` in its place."""

ValueOf = Callable[[str, str], object]
"""The value of a node's control, by the names of both, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a workflow is sent, by the clock on the wall, and the seed of all that is drawn."""

    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int
    seed: int

    def pick(self) -> "Pick":
        state = self.seed

        def picked(count: int) -> int:
            nonlocal state
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64  # Knuth's constants
            return (state >> 33) * count >> 31

        return picked

    def written(self, form: str) -> str:
        """The date in the editor's form: `yyyy`, `yy`, and `d`, `M`, `h`, `m`, `s` once or twice."""
        parts = {"d": self.day, "M": self.month, "h": self.hour, "m": self.minute, "s": self.second}

        def part(found: re.Match[str]) -> str:
            name = found.group()
            if name[0] in parts:
                return str(parts[name[0]]).zfill(len(name))
            return {"yy": f"{self.year}"[2:], "yyyy": f"{self.year}"}.get(name, name)

        return _DATE_PART.sub(part, form)


Pick = Callable[[int], int]
"""A number from 0 up to the given one, without it."""

Piece = str | list[list["Piece"]]
"""A text, or variants, each of which is a list of pieces."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text with variants, read. `text`: without its comments, and otherwise as it was.

    `first`: the beginning of the first variants; None: there is nothing to draw.
    """

    text: str
    pieces: list[Piece]
    first: str | None

    def drawn(self, pick: Pick | None) -> str:
        return "".join(_drawn(self.pieces, pick))


def read_prompt(text: str) -> Prompt:
    """Without comments. Variants that are not closed go to the end; `\\{`, `\\|` and `\\}` are plain."""
    text = _without_comments(text)
    pieces: list[Piece] = []
    around: list[tuple[list[Piece], list[list[Piece]], int]] = []
    into, at, first = pieces, 0, None
    for mark in _MARK.finditer(text):
        sign = mark.group()
        if sign[0] == "\\" or (sign != "{" and not around):
            continue
        if at < mark.start():
            into.append(_ESCAPED.sub(r"\1", text[at : mark.start()]))
        at = mark.end()
        if sign == "{":
            around.append((into, [[]], mark.start()))
            into = around[-1][1][0]
        elif sign == "|":
            first = first if first is not None else around[-1][2]
            into = []
            around[-1][1].append(into)
        else:
            into = _closed(around)
    into.append(_ESCAPED.sub(r"\1", text[at:]))
    while around:
        _closed(around)
    return Prompt(text, pieces, None if first is None else _shown(text, first))


def _closed(around: list[tuple[list[Piece], list[list[Piece]], int]]) -> list[Piece]:
    outer, variants, _ = around.pop()
    outer.append(variants)
    return outer


def _shown(text: str, start: int) -> str:
    end = text.find("}", start, start + _SHOWN)
    return text[start : end + 1 if end > 0 else start + _SHOWN]


def _drawn(pieces: list[Piece], pick: Pick | None) -> Iterator[str]:
    todo = [iter(pieces)]
    while todo:
        piece = next(todo[-1], None)
        if piece is None:
            todo.pop()
        elif isinstance(piece, str):
            yield piece
        else:
            todo.append(iter(piece[pick(len(piece)) if pick is not None and len(piece) > 1 else 0]))


def filled_in(text: str, value_of: ValueOf, moment: Moment | None) -> tuple[str, str | None]:
    """The name of a file with dates and values in it; and the first that could not be filled in, if any.

    The editor leaves what it does not know as it is, and so it is done here.
    """
    left: list[str] = []

    def value(found: re.Match[str]) -> str:
        parts = found.group(1).split(".")
        new = None
        if len(parts) == 2:
            known = value_of(*parts)
            new = None if known is None else _ILLEGAL.sub("_", as_text(known))
        elif not parts[0].startswith(_DATE):
            return found.group()  # the engine fills in %year% and its like
        elif moment is not None:
            new = moment.written(parts[0].removeprefix(_DATE))
        if new is None:
            left.append(found.group()[:_SHOWN])
            return found.group()
        return new

    text = _FILLED.sub(value, text)
    return text, left[0] if left else None


def as_text(value: object) -> str:
    """As JavaScript writes it: a list as what is in it, with commas between."""
    found, todo = [], [value]
    while todo:
        each = todo.pop()
        if isinstance(each, list) and each:
            todo.extend(reversed(each))
        else:
            found.append(_as_text(each))
    return ",".join(found)


def _as_text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return str(int(value)) if value.is_integer() else str(value)
        case Mapping():
            return "[object Object]"
        case _:
            return "" if value in (None, []) else str(value)


def _without_comments(text: str) -> str:
    # An end is searched for only where there is one: a text of nothing but "/*" would take quadratic time.
    end = text.rfind("*/") + 2
    return (
        _COMMENT.sub("", text[:end]) + _TO_LINE_END.sub("", text[end:])
        if end > 1
        else _TO_LINE_END.sub("", text)
    )
