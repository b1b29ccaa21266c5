"""Conditional and range requests (RFC 9110 §13 and §14), decided before a byte is read. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from comfy_mcp.operations.outputs import Span

CONDITIONAL = ("If-Match", "If-None-Match", "If-Range")

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_RANGE = re.compile(r"([0-9]{0,19})-([0-9]{0,19})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """200 with everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """206 with this."""

    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class NotModified:
    """304."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreconditionFailed:
    """412."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSatisfiable:
    """416: the range begins behind the end."""


Decision = Whole | Part | NotModified | PreconditionFailed | NotSatisfiable


def decide(method: str, headers: Mapping[str, str], *, etag: str | None, size: int | None) -> Decision:
    """In the order of RFC 9110 §13.2.2. `etag` is strong and quoted; None when it is not known (yet).

    Ignored, as the RFC allows or asks, are ranges of a HEAD, in other units, of a size that nobody knows,
    that are no ranges, and several at once: then the whole is sent.
    """
    if (wanted := headers.get("If-Match")) is not None and not _lists(wanted, etag, weak=False):
        return PreconditionFailed()
    if (known := headers.get("If-None-Match")) is not None and _lists(known, etag, weak=True):
        return NotModified()
    asked = headers.get("Range")
    if asked is None or method != "GET" or size is None:
        return Whole()
    # A date never matches: no Last-Modified is sent that it could have come from.
    if (same := headers.get("If-Range")) is not None and (etag is None or same.strip() != etag):
        return Whole()
    return _range(asked, size)


def _lists(header: str, etag: str | None, *, weak: bool) -> bool:
    """Whether `header`, a list of tags or `*`, has the tag of what there is."""
    if header.strip() == "*":
        return True
    return any(tag == etag and (weak or not is_weak) for is_weak, tag in _TAG.findall(header))


def _range(asked: str, size: int) -> Decision:
    unit, equals, ranges = asked.partition("=")
    found = _RANGE.fullmatch(ranges.strip())
    if not equals or unit.strip().lower() != "bytes" or found is None:
        return Whole()
    first, last = found.groups()
    if not first and not last:
        return Whole()
    if not first:  # the last `last` bytes
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return Whole()  # no range at all
    return Part(span=Span(start=start, stop=stop)) if start < stop else NotSatisfiable()
