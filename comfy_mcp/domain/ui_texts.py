"""What the editor makes of a text in the moment of sending, as far as it is the same each time.

Of a prompt it cuts comments (`// …` to the end of the line, `/* … */`), takes the braces off `{red}`, and
draws one variant of `{red|blue}`, anew for each run. The draw is not done here: a retry would run another
graph.

In the name of a file it replaces `%Node.input%` by the value that this control of that node has.
"""

import re
from collections.abc import Callable

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_TO_LINE_END = re.compile(r"//[^\n]*")
_REPLACED = re.compile(r"%(?:date:[^%]{1,200}|[^%/\\.]{1,200}\.[^%/\\]{1,200})%")
_ESCAPED = frozenset("{}|")
_SHOWN = 80


_ILLEGAL = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
"""What no name of a file has; the editor puts `_` in its place."""


def as_sent(
    name: str, text: str, *, drawn: bool, value_of: Callable[[str, str], object] = lambda node, control: None
) -> tuple[str, str | None]:
    """`text` of input `name` as the editor sends it, and what is left in it that the editor would replace.

    `drawn`: the class says that the text has variants (`dynamicPrompts`). `value_of` gives the value of a
    node's control, or None.
    """
    if drawn:
        text = _without_comments(text)
        plain, variants_at = _without_braces(text)
        if variants_at is None:
            return plain, None
        end = text.find("}", variants_at, variants_at + _SHOWN)
        return text, text[variants_at : end + 1 if end > 0 else variants_at + _SHOWN]
    if name != "filename_prefix":
        return text, None

    def replaced(found: re.Match[str]) -> str:
        node, _, control = found.group()[1:-1].partition(".")
        value = None if node.startswith("date:") else value_of(node, control)
        return found.group() if value is None else _ILLEGAL.sub("_", _as_text(value))

    text = _REPLACED.sub(replaced, text)
    left = _REPLACED.search(text)
    return text, left.group()[:_SHOWN] if left else None


def _as_text(value: object) -> str:
    """As JavaScript writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _without_comments(text: str) -> str:
    # An end is searched for only where there is one: a text of nothing but "/*" would take quadratic time.
    end = text.rfind("*/") + 2
    return (
        _COMMENT.sub("", text[:end]) + _TO_LINE_END.sub("", text[end:])
        if end > 1
        else _TO_LINE_END.sub("", text)
    )


def _without_braces(text: str) -> tuple[str, int | None]:
    """Without the marks of variants; and where the first variants begin that have to be drawn."""
    kept: list[str] = []
    opened: list[int] = []
    at = 0
    while at < len(text):
        sign = text[at]
        if sign == "\\" and text[at + 1 : at + 2] in _ESCAPED:
            at += 1
            kept.append(text[at])
        elif sign == "{":
            opened.append(at)
        elif sign == "}" and opened:
            opened.pop()
        elif sign == "|" and opened:
            return text, opened[-1]
        else:
            kept.append(sign)
        at += 1
    return "".join(kept), None
