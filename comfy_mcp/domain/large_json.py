"""JSON of many values, parsed and written by Python code instead of C.

It takes two or three times as long. But C code holds the interpreter's lock until it has finished: 4 MB of
short values take half a second, in which no other thread runs, and so nobody is answered. Run in a thread,
this code shares the processor with the event loop. One string is read by C code all the same: Python's takes
six times as long for it, in one regular expression, which shares nothing either.
"""

import json
from json import decoder, scanner
from typing import Any

LARGE_BYTES = 1_000_000
"""JSON text beyond it is parsed in a thread, and so is all other work on what it holds."""

LARGE_VALUES = 30_000
"""A value that holds more is written in a thread. C code writes some 2,000 values in a millisecond."""


def is_large(value: object) -> bool:
    """Whether it holds more than LARGE_VALUES. Looks at no more than that many."""
    left = LARGE_VALUES
    found: list[Any] = [value] if isinstance(value, dict | list) else []
    while found:
        left -= sum(map(len, found))
        if left < 0:
            return True
        found = [
            each
            for one in found
            for each in (one.values() if isinstance(one, dict) else one)
            if each.__class__ is dict or each.__class__ is list
        ]
    return False


def loads(text: str, **hooks: Any) -> Any:
    """As `json.loads`, with its hooks: by C code, unless the text is large."""
    if len(text) <= LARGE_BYTES:
        return json.loads(text, **hooks)
    parser: Any = json.JSONDecoder(**hooks)
    python: Any = scanner
    parser.parse_object, parser.parse_array = decoder.JSONObject, decoder.JSONArray  # type: ignore[attr-defined]
    parser.scan_once = python.py_make_scanner(parser)
    return parser.decode(text)


def dumps(value: object, *, large: bool) -> str:
    """As `json.dumps` without spaces: by C code, unless the value is `large`."""
    return _written(_PLAIN, value, large=large)


def strict_text(value: object, *, large: bool) -> str:
    """The same with all characters as they are. Raises ValueError for NaN and Infinity, which no JSON has."""
    return _written(_STRICT, value, large=large)


def sorted_text(value: object, *, large: bool) -> str:
    """JSON with its keys in order: equal values have the same text. As `dumps` for the rest."""
    return _written(_SORTED, value, large=large)


def with_whole_characters(text: str) -> str:
    """The text with U+FFFD for half a character (an unpaired surrogate): JSON can say one, UTF-8 can't."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _written(encoder: json.JSONEncoder, value: object, *, large: bool) -> str:
    return "".join(encoder.iterencode(value)) if large else encoder.encode(value)


_PLAIN = json.JSONEncoder(separators=(",", ":"))
_STRICT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_SORTED = json.JSONEncoder(sort_keys=True)
