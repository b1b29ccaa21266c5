"""Prices of partner nodes in words: those that 0.33.0 declares, and what no formula is."""

import json
from typing import Any

import pytest

from comfy_mcp.domain.prices import price_of


def badge(price: Any, **depends_on: Any) -> dict[str, Any]:
    expr = price if isinstance(price, str) else json.dumps(price)
    return {"engine": "jsonata", "depends_on": depends_on or {"widgets": [], "inputs": []}, "expr": expr}


MODEL = {"name": "model", "type": "COMBO"}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (badge({"type": "usd", "usd": 0.06}), "$0.06"),
        (badge({"type": "usd", "usd": 2}), "$2"),
        (badge({"type": "usd", "usd": 0.05, "format": {"suffix": "/second"}}), "$0.05/second"),
        (
            badge(
                {"type": "range_usd", "min_usd": 0.0375, "max_usd": 0.075, "format": {"approximate": True}}
            ),
            "about $0.0375 to $0.075",
        ),
        (badge({"type": "text", "text": "Token-based"}), "Token-based"),
        (badge("widgets.model = 'a' ? 1 : 2", widgets=[MODEL], inputs=["image"]), "price by model, image"),
        (badge("1 +", widgets=[], inputs=[]), None),
        ({"expr": "(", "depends_on": 3}, None),
        ({"expr": "(", "depends_on": {"widgets": 3, "inputs": [{}]}}, None),
        (badge({"type": "usd", "usd": "much"}), None),
        (badge([1]), None),
        (badge({"type": "usd", "usd": 1, "format": 3}), "$1"),
        (badge({"type": "usd", "usd": 1, "format": {"suffix": 3}}), "$1"),
        ({}, None),
        ({"expr": 3}, None),
        (None, None),
    ],
)
def test_a_price_is_told_as_declared_and_never_computed(declared: object, said: str | None) -> None:
    assert price_of(declared) == said
