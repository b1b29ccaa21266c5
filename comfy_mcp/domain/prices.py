"""The price of a partner node in words, from `price_badge` in GET /object_info.

A fixed price is given as the engine declares it. For a price that depends on the node's inputs, their names
are given: the engine's formulas are not computed.
"""

import json
from collections.abc import Mapping
from typing import Any


def price_of(badge: object) -> str | None:
    """A `price_badge` in words: `{engine: "jsonata", depends_on: {widgets: [{name}], …}, expr}`."""
    if not isinstance(badge, Mapping):
        return None
    try:
        price = json.loads(badge.get("expr", ""))
    except (TypeError, ValueError, RecursionError):  # a formula
        return _depends(badge.get("depends_on"))
    return _constant(price) if isinstance(price, Mapping) else None


def _constant(price: Mapping[Any, Any]) -> str | None:
    form = price.get("format")
    form = form if isinstance(form, Mapping) else {}
    match price:
        case {"type": "text", "text": str(text)}:
            return text[:100]
        case {"type": "usd", "usd": int() | float() as amount}:
            dollars = _dollars(amount)
        case {"type": "range_usd", "min_usd": int() | float() as least, "max_usd": int() | float() as most}:
            dollars = f"{_dollars(least)} to {_dollars(most)}"
        case _:
            return None
    suffix = form.get("suffix")
    about = "about " if form.get("approximate") is True else ""
    return f"{about}{dollars}{suffix[:40] if isinstance(suffix, str) else ''}"


def _dollars(amount: float) -> str:
    return f"${amount:.4f}".rstrip("0").rstrip(".")


def _depends(on: object) -> str | None:
    """The names are ComfyUI's own: those of widgets, of inputs and of groups of inputs."""
    if not isinstance(on, Mapping):
        return None
    listed = [item for part in on.values() if isinstance(part, list) for item in part]
    names = [name for item in listed if (name := item.get("name") if isinstance(item, Mapping) else item)]
    shown = ", ".join(str(name)[:40] for name in names[:5])
    return f"price by {shown}" if shown else None
