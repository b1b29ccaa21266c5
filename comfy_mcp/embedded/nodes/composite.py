"""Putting one image onto another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from comfy_mcp.embedded.nodes.base import Input, Inputs, NodeResult, NodeType, RunContext
from comfy_mcp.embedded.nodes.frames import Frames, batch, check_batch
from comfy_mcp.embedded.nodes.image import MAX_RESOLUTION
from comfy_mcp.embedded.nodes.scale import resize


def _image_composite_masked(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    """Where the mask is 1, or everywhere without one, the source covers the destination.

    A shorter batch of sources or masks starts over; what hangs over the edge is cut off.
    """
    below: Frames = inputs["destination"]
    above: Frames = inputs["source"].each(lambda frame: frame.convert(below.mode))
    if inputs["resize_source"]:
        above = above.each(lambda frame: resize(frame, below.size, "bilinear"))
    mask: Frames | None = inputs.get("mask")
    masks = mask.each(lambda frame: resize(frame, above.size, "bilinear")).frames if mask else (None,)
    at = (min(inputs["x"], below.size[0]), min(inputs["y"], below.size[1]))
    done: dict[tuple[int, int, int], Image.Image] = {}
    frames = []
    for number, frame in enumerate(below.frames):
        source, cover = above.frames[number % len(above.frames)], masks[number % len(masks)]
        key = (id(frame), id(source), id(cover))
        if key not in done:
            done[key] = _pasted(frame, source, at, cover)
        frames.append(done[key])
    result = batch(frames)
    check_batch(result, context.config.max_pixels)
    return NodeResult(values=(result,))


def _pasted(
    frame: Image.Image, source: Image.Image, at: tuple[int, int], mask: Image.Image | None
) -> Image.Image:
    copy = frame.copy()
    copy.paste(source, at, mask)
    return copy


def _offset() -> Input:
    return Input("INT", {"default": 0, "min": 0, "max": MAX_RESOLUTION, "step": 1})


IMAGE_COMPOSITE_MASKED = NodeType(
    name="ImageCompositeMasked",
    display_name="ImageCompositeMasked",
    category="image",
    python_module="comfy_extras.nodes_mask",
    inputs=lambda _: Inputs(
        required={
            "destination": Input("IMAGE"),
            "source": Input("IMAGE"),
            "x": _offset(),
            "y": _offset(),
            "resize_source": Input("BOOLEAN", {"default": False}),
        },
        optional={"mask": Input("MASK")},
    ),
    returns=("IMAGE",),
    run=_image_composite_masked,
)

NODES = (IMAGE_COMPOSITE_MASKED,)
