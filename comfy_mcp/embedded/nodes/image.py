"""Nodes that make images out of nothing or out of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from comfy_mcp.embedded.directories import Directories, OutsideDirectory, content_hash
from comfy_mcp.embedded.nodes.base import Input, Inputs, NodeFailure, NodeResult, NodeType, RunContext
from comfy_mcp.embedded.nodes.frames import Frames, batch, check_size

MAX_RESOLUTION = 16384


def _empty_image(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    width, height, color = inputs["width"], inputs["height"], inputs["color"]
    check_size(width, height, context.config.max_pixels)
    rgb = ((color >> 16) & 0xFF, (color >> 8) & 0xFF, color & 0xFF)
    frame = Image.new("RGB", (width, height), rgb)
    # One picture, many times: a batch of a thousand equal frames takes the memory of one.
    return NodeResult(values=(Frames((frame,) * inputs["batch_size"]),))


def _solid_mask(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    width, height = inputs["width"], inputs["height"]
    check_size(width, height, context.config.max_pixels)
    frame = Image.new("L", (width, height), round(inputs["value"] * 255))
    return NodeResult(values=(Frames((frame,)),))


def _load_image(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    path = context.directories.annotated(inputs["image"])
    images: list[Image.Image] = []
    masks: list[Image.Image] = []
    try:
        with Image.open(path) as source:
            check_size(source.width, source.height, context.config.max_pixels)
            for page in ImageSequence.Iterator(source):
                frame = ImageOps.exif_transpose(page)
                if images and frame.size != images[0].size:
                    continue
                check_size(frame.width, frame.height * (len(images) + 1), context.config.max_pixels)
                images.append(frame.convert("RGB"))
                masks.append(_mask_of(frame))
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise NodeFailure(str(error), kind=type(error).__name__) from error
    return NodeResult(values=(batch(images), batch(masks)))


def _mask_of(frame: Image.Image) -> Image.Image:
    """Transparent is 1 in a mask; a picture without transparency gets a 64x64 mask of zeros."""
    if "A" in frame.getbands():
        return ImageOps.invert(frame.getchannel("A"))
    if frame.mode == "P" and "transparency" in frame.info:
        return ImageOps.invert(frame.convert("RGBA").getchannel("A"))
    return Image.new("L", (64, 64), 0)


def _check_file(directories: Directories, inputs: Mapping[str, Any]) -> tuple[str, str] | None:
    name = inputs.get("image")
    if not isinstance(name, str):
        return None
    try:
        found = directories.annotated(name).is_file()
    except OutsideDirectory:
        found = False
    return None if found else ("image", f"Invalid image file: {name}")


def _file_hash(directories: Directories, inputs: Mapping[str, Any]) -> str:
    return content_hash(directories.annotated(inputs["image"]))


def _load_inputs(directories: Directories) -> Inputs:
    return Inputs(required={"image": Input(directories.input_files(), {"image_upload": True})})


EMPTY_IMAGE = NodeType(
    name="EmptyImage",
    display_name="EmptyImage",
    category="image",
    inputs=lambda _: Inputs(
        required={
            "width": Input("INT", {"default": 512, "min": 1, "max": MAX_RESOLUTION, "step": 1}),
            "height": Input("INT", {"default": 512, "min": 1, "max": MAX_RESOLUTION, "step": 1}),
            "batch_size": Input("INT", {"default": 1, "min": 1, "max": 4096}),
            "color": Input("INT", {"default": 0, "min": 0, "max": 0xFFFFFF, "step": 1, "display": "color"}),
        }
    ),
    returns=("IMAGE",),
    run=_empty_image,
)
SOLID_MASK = NodeType(
    name="SolidMask",
    display_name="SolidMask",
    python_module="comfy_extras.nodes_mask",
    category="mask",
    inputs=lambda _: Inputs(
        required={
            "value": Input("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}),
            "width": Input("INT", {"default": 512, "min": 1, "max": MAX_RESOLUTION, "step": 1}),
            "height": Input("INT", {"default": 512, "min": 1, "max": MAX_RESOLUTION, "step": 1}),
        }
    ),
    returns=("MASK",),
    run=_solid_mask,
)
LOAD_IMAGE = NodeType(
    name="LoadImage",
    display_name="Load Image",
    category="image",
    inputs=_load_inputs,
    returns=("IMAGE", "MASK"),
    run=_load_image,
    check=_check_file,
    checks_itself=frozenset({"image"}),
    fingerprint=_file_hash,
)

NODES = (EMPTY_IMAGE, SOLID_MASK, LOAD_IMAGE)
