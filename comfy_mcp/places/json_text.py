"""Pure: the one place where text of an engine or a service becomes values. Every string in them can be stored
and sent.

Half a surrogate pair (a prompt that was cut inside an emoji, a file name that is not UTF-8) is valid JSON and
no text: the first `.encode()` that meets it raises. It becomes U+FFFD here, and so do NUL, which databases
refuse, and bytes that are not UTF-8.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from comfy_mcp.domain import large_json

_decoder = json.JSONDecoder()

SLOW_BYTES = 4_000_000
"""Beyond it C code would keep the interpreter for too long. Node lists, which are read often, are smaller."""

_BAD_ESCAPE = re.compile(
    r"\\u(?:([dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|[dD][89a-fA-F][0-9a-fA-F]{2}|0000)"
)
"""Begins with a literal, so that a search passes over other text at the speed of memory. Group 1: a pair."""

_OPENING = ("{", "[")
_REPLACEMENT = "\\ufffd"


def parse(raw: bytes | str) -> Any:
    """The JSON value of `raw`. Raises ValueError, and RecursionError for nesting without an end."""
    text = (raw if isinstance(raw, str) else raw.decode("utf-8", "replace")).removeprefix("\ufeff")
    if "\\u" in text:
        text = _BAD_ESCAPE.sub(_whole, text)
    if (length := len(text)) > SLOW_BYTES:
        return large_json.loads(text)
    if text[:1] in _OPENING:
        value, end = _decoder.raw_decode(text)
        if end == length:  # the usual case: nothing stands around it
            return value
    return _decoder.decode(text)


def members(value: object) -> Mapping[str, Any]:
    """Of a JSON object; none of anything else."""
    return value if isinstance(value, Mapping) else {}


def _whole(found: re.Match[str]) -> str:
    is_pair = found[1] is not None
    if _is_escape(found.string, found.start()):
        return found[0] if is_pair else _REPLACEMENT
    # An escaped backslash, and letters that look like an escape; behind them may stand a real one.
    return f"{found[0][:6]}{_REPLACEMENT}" if is_pair else found[0]


def _is_escape(text: str, at: int) -> bool:
    """Whether the backslash there begins an escape: an even number of them stands before it."""
    first = at
    while first and text[first - 1] == "\\":
        first -= 1
    return (at - first) % 2 == 0
