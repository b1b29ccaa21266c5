"""Blend modes, computed in floats from 0 to 1 and cut to 8 bits once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image, ImageMath

from comfy_mcp.embedded.nodes.base import NodeFailure

_Band = Any  # An image inside ImageMath, or a number: Pillow gives it no type of its own.
_ALMOST = 0.001
"""Added before the cut: float noise must not turn 0.99999 of a level into the level below."""


def _normal(_: _Band, upper: _Band) -> _Band:
    return upper


def _multiply(lower: _Band, upper: _Band) -> _Band:
    return lower * upper


def _screen(lower: _Band, upper: _Band) -> _Band:
    return 1.0 - (1.0 - lower) * (1.0 - upper)


def _overlay(lower: _Band, upper: _Band) -> _Band:
    dark = lower <= 0.5
    return dark * (2.0 * lower * upper) + (1 - dark) * (1.0 - 2.0 * (1.0 - lower) * (1.0 - upper))


def _soft_light(lower: _Band, upper: _Band) -> _Band:
    """The W3C's soft-light."""
    darken = upper <= 0.5
    low = lower <= 0.25
    curve = low * (((16.0 * lower - 12.0) * lower + 4.0) * lower) + (1 - low) * lower**0.5
    darker = lower - (1.0 - 2.0 * upper) * lower * (1.0 - lower)
    lighter = lower + (2.0 * upper - 1.0) * (curve - lower)
    return darken * darker + (1 - darken) * lighter


def _difference(lower: _Band, upper: _Band) -> _Band:
    """Signed, as in ComfyUI: where the upper image is brighter, the result is black, not the distance."""
    return lower - upper


BLEND_MODES: Mapping[str, Callable[[_Band, _Band], _Band]] = {
    "normal": _normal,
    "multiply": _multiply,
    "screen": _screen,
    "overlay": _overlay,
    "soft_light": _soft_light,
    "difference": _difference,
}


def blend(lower: Image.Image, upper: Image.Image, factor: float, mode: str) -> Image.Image:
    """Mix `lower` with the blend of both. Sizes and modes must be equal."""
    formula = BLEND_MODES.get(mode)
    if formula is None:
        raise NodeFailure(f"Unknown blend mode: {mode}", kind="ValueError")

    def mixed(bands: Mapping[str, _Band]) -> _Band:
        below, above = bands["lower"] / 255.0, bands["upper"] / 255.0
        return (below * (1.0 - factor) + formula(below, above) * factor) * 255.0 + _ALMOST

    done = [
        ImageMath.lambda_eval(mixed, lower=a.convert("F"), upper=b.convert("F")).convert("L")
        for a, b in zip(lower.split(), upper.split(), strict=True)
    ]
    return Image.merge(lower.mode, done)
