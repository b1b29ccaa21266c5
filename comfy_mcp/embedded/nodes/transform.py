"""Nodes that turn images into other images.

ComfyUI computes with floats and cuts to 8 bits when it saves; here every node rounds, which may differ by one
level. `bicubic` uses Pillow's kernel, which is a little softer than the one ComfyUI uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps

from comfy_mcp.embedded.nodes.base import Input, Inputs, NodeFailure, NodeResult, NodeType, RunContext
from comfy_mcp.embedded.nodes.blend import BLEND_MODES, blend
from comfy_mcp.embedded.nodes.frames import Frames, batch, check_batch, check_size
from comfy_mcp.embedded.nodes.image import MAX_RESOLUTION
from comfy_mcp.embedded.nodes.scale import UPSCALE_METHODS, cut_center, resize

V3: Mapping[str, Any] = {"deprecated": False, "experimental": False, "api_node": False}
"""What /object_info adds for the nodes that ComfyUI declares in its newer way."""
_IMAGES = "comfy_extras.nodes_images"


def _scaled(context: RunContext, images: Frames, size: tuple[int, int], method: str) -> NodeResult:
    check_size(*size, context.config.max_pixels)
    return NodeResult(values=(images.each(lambda frame: resize(frame, size, method)),))


def _image_scale(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    """A width or height of 0 follows from the other one; both 0 change nothing."""
    images: Frames = inputs["image"]
    width, height = inputs["width"], inputs["height"]
    if width == 0 and height == 0:
        return NodeResult(values=(images,))
    if width == 0:
        width = max(1, round(images.size[0] * height / images.size[1]))
    elif height == 0:
        height = max(1, round(images.size[1] * width / images.size[0]))
    if inputs["crop"] == "center":
        images = images.each(lambda frame: cut_center(frame, width / height))
    return _scaled(context, images, (width, height), inputs["upscale_method"])


def _image_scale_by(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    images: Frames = inputs["image"]
    size = (round(images.size[0] * inputs["scale_by"]), round(images.size[1] * inputs["scale_by"]))
    return _scaled(context, images, size, inputs["upscale_method"])


def _image_invert(_: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult(values=(inputs["image"].each(ImageOps.invert),))


def _image_blend(_: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    """One frame is blended with all of the other batch; two longer batches must have the same length."""
    first, second = _same_mode(inputs["image1"], inputs["image2"])
    if second.size != first.size:
        second = _fitted(second, first.size, "bicubic")
    length = max(len(first.frames), len(second.frames))
    if {len(first.frames), len(second.frames)} - {1, length}:
        raise NodeFailure(
            f"Batches of {len(first.frames)} and {len(second.frames)} images cannot be blended.",
            kind="RuntimeError",
        )
    pairs = zip(_repeated(first, length), _repeated(second, length), strict=True)
    factor, mode = inputs["blend_factor"], inputs["blend_mode"]
    return NodeResult(values=(batch(blend(a, b, factor, mode) for a, b in pairs),))


def _image_batch(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    """The second batch takes the size of the first."""
    first, second = _same_mode(inputs["image1"], inputs["image2"])
    if second.size != first.size:
        second = _fitted(second, first.size, "bilinear")
    joined = Frames(first.frames + second.frames)
    check_batch(joined, context.config.max_pixels)
    return NodeResult(values=(joined,))


def _image_from_batch(_: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    frames = inputs["image"].frames
    start = min(len(frames) - 1, inputs["batch_index"])
    return NodeResult(values=(Frames(frames[start : start + inputs["length"]]),))


def _repeat_batch(_: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult(values=(Frames(inputs["image"].frames * inputs["amount"]),))


def _image_crop(_: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    """What lies inside: a box that reaches over the edge gives a smaller image."""
    images: Frames = inputs["image"]
    width, height = images.size
    left, top = min(inputs["x"], width - 1), min(inputs["y"], height - 1)
    box = (left, top, min(left + inputs["width"], width), min(top + inputs["height"], height))
    return NodeResult(values=(images.each(lambda frame: frame.crop(box)),))


def _mask_to_image(_: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult(values=(inputs["mask"].each(lambda frame: frame.convert("RGB")),))


def _fitted(images: Frames, size: tuple[int, int], method: str) -> Frames:
    cut = images.each(lambda frame: cut_center(frame, size[0] / size[1]))
    return cut.each(lambda frame: resize(frame, size, method))


def _same_mode(first: Frames, second: Frames) -> tuple[Frames, Frames]:
    """Give both batches transparency when one has it."""
    if first.mode == second.mode:
        return first, second
    return first.each(lambda frame: frame.convert("RGBA")), second.each(lambda frame: frame.convert("RGBA"))


def _repeated(images: Frames, length: int) -> tuple[Image.Image, ...]:
    return images.frames * length if len(images.frames) == 1 else images.frames


def _side(default: int = 512, minimum: int = 1) -> Input:
    return Input("INT", {"default": default, "min": minimum, "max": MAX_RESOLUTION, "step": 1})


_SCALE = NodeType(
    name="ImageScale",
    display_name="Upscale Image",
    category="image/upscaling",
    inputs=lambda _: Inputs(
        required={
            "image": Input("IMAGE"),
            "upscale_method": Input(list(UPSCALE_METHODS)),
            "width": _side(minimum=0),
            "height": _side(minimum=0),
            "crop": Input(["disabled", "center"]),
        }
    ),
    returns=("IMAGE",),
    run=_image_scale,
)
_SCALE_BY = NodeType(
    name="ImageScaleBy",
    display_name="Upscale Image By",
    category="image/upscaling",
    inputs=lambda _: Inputs(
        required={
            "image": Input("IMAGE"),
            "upscale_method": Input(list(UPSCALE_METHODS)),
            "scale_by": Input("FLOAT", {"default": 1.0, "min": 0.01, "max": 8.0, "step": 0.01}),
        }
    ),
    returns=("IMAGE",),
    run=_image_scale_by,
)
_INVERT = NodeType(
    name="ImageInvert",
    display_name="Invert Image",
    category="image",
    inputs=lambda _: Inputs(required={"image": Input("IMAGE")}),
    returns=("IMAGE",),
    run=_image_invert,
)
_BLEND = NodeType(
    name="ImageBlend",
    display_name=None,
    category="image/postprocessing",
    python_module="comfy_extras.nodes_post_processing",
    described_as={"output_tooltips": [None], **V3},
    inputs=lambda _: Inputs(
        required={
            "image1": Input("IMAGE", {}),
            "image2": Input("IMAGE", {}),
            "blend_factor": Input("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01}),
            "blend_mode": Input("COMBO", {"multiselect": False, "options": list(BLEND_MODES)}),
        }
    ),
    returns=("IMAGE",),
    run=_image_blend,
)
_BATCH = NodeType(
    name="ImageBatch",
    display_name="Batch Images",
    category="image",
    inputs=lambda _: Inputs(required={"image1": Input("IMAGE"), "image2": Input("IMAGE")}),
    returns=("IMAGE",),
    run=_image_batch,
)
_FROM_BATCH = NodeType(
    name="ImageFromBatch",
    display_name="ImageFromBatch",
    category="image/batch",
    python_module=_IMAGES,
    inputs=lambda _: Inputs(
        required={
            "image": Input("IMAGE"),
            "batch_index": Input("INT", {"default": 0, "min": 0, "max": 4095}),
            "length": Input("INT", {"default": 1, "min": 1, "max": 4096}),
        }
    ),
    returns=("IMAGE",),
    run=_image_from_batch,
)
_REPEAT = NodeType(
    name="RepeatImageBatch",
    display_name="RepeatImageBatch",
    category="image/batch",
    python_module=_IMAGES,
    inputs=lambda _: Inputs(
        required={
            "image": Input("IMAGE"),
            "amount": Input("INT", {"default": 1, "min": 1, "max": 4096}),
        }
    ),
    returns=("IMAGE",),
    run=_repeat_batch,
)
_CROP = NodeType(
    name="ImageCrop",
    display_name="Image Crop",
    category="image/transform",
    python_module=_IMAGES,
    inputs=lambda _: Inputs(
        required={
            "image": Input("IMAGE"),
            "width": _side(),
            "height": _side(),
            "x": _side(0, 0),
            "y": _side(0, 0),
        }
    ),
    returns=("IMAGE",),
    run=_image_crop,
)
_MASK_TO_IMAGE = NodeType(
    name="MaskToImage",
    display_name="Convert Mask to Image",
    category="mask",
    python_module="comfy_extras.nodes_mask",
    inputs=lambda _: Inputs(required={"mask": Input("MASK")}),
    returns=("IMAGE",),
    run=_mask_to_image,
)

NODES = (_SCALE, _SCALE_BY, _INVERT, _BLEND, _BATCH, _FROM_BATCH, _REPEAT, _CROP, _MASK_TO_IMAGE)
