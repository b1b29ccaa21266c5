"""Nodes that show or write results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from comfy_mcp.embedded.directories import Directories, OutsideDirectory, SaveTarget
from comfy_mcp.embedded.nodes.base import Input, Inputs, NodeFailure, NodeResult, NodeType, RunContext
from comfy_mcp.embedded.nodes.frames import Frames

_METADATA = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
_WEBP_METHODS = {"default": 4, "fastest": 0, "slowest": 6}


def _target(context: RunContext, kind: str, prefix: str, size: tuple[int, int]) -> SaveTarget:
    try:
        return context.directories.save_target(kind, prefix, size, datetime.now().astimezone())
    except OutsideDirectory as error:
        raise NodeFailure(
            f"The prefix {prefix!r} leads out of the {kind} folder: use a relative prefix without '..'."
        ) from error


def _save_pngs(context: RunContext, images: Frames, kind: str, prefix: str, level: int) -> NodeResult:
    target = _target(context, kind, prefix, images.size)
    info = PngInfo()
    info.add_text("prompt", json.dumps(context.prompt))
    for key, value in (context.extra_pnginfo or {}).items():
        info.add_text(key, json.dumps(value))
    saved = []
    for number, frame in enumerate(images.frames):
        stem = target.stem.replace("%batch_num%", str(number))
        name = SaveTarget(target.folder, target.subfolder, stem, target.counter).filename("png", number)
        frame.save(target.folder / name, format="PNG", pnginfo=info, compress_level=level)
        saved.append({"filename": name, "subfolder": target.subfolder, "type": kind})
    return NodeResult(ui={"images": saved})


def _save_image(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    return _save_pngs(context, inputs["images"], "output", inputs.get("filename_prefix", "ComfyUI"), 4)


def _preview_image(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    return _save_pngs(context, inputs["images"], "temp", f"ComfyUI_temp_{context.temp_suffix}", 1)


def _save_webp(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    images: Frames = inputs["images"]
    target = _target(context, "output", inputs["filename_prefix"], images.size)
    name = target.filename("webp")
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{json.dumps(context.prompt)}"
    tag = 0x010F
    for key, value in (context.extra_pnginfo or {}).items():
        exif[tag] = f"{key}:{json.dumps(value)}"
        tag -= 1
    images.frames[0].save(
        Path(target.folder / name),
        save_all=True,
        duration=int(1000.0 / inputs["fps"]),
        append_images=list(images.frames[1:]),
        exif=exif,
        lossless=inputs["lossless"],
        quality=inputs["quality"],
        method=_WEBP_METHODS[inputs["method"]],
    )
    saved = {"filename": name, "subfolder": target.subfolder, "type": "output"}
    return NodeResult(ui={"images": [saved], "animated": [len(images.frames) != 1]})


def _preview_any(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    value = inputs.get("source")
    if isinstance(value, str | int | float | bool):
        text = str(value)
    elif value is None:
        text = "None"
    else:
        try:
            text = json.dumps(value, indent=4)
        except TypeError:
            text = str(value)
    return NodeResult(ui={"text": (text,)})


def _image_inputs(**extra: Input) -> Inputs:
    return Inputs(required={"images": Input("IMAGE"), **extra}, hidden=_METADATA)


def _save_image_inputs(_: Directories) -> Inputs:
    prefix = {
        "default": "ComfyUI",
        "tooltip": "Where and under which name to save: may hold a subfolder and tokens such as %width%.",
    }
    return Inputs(
        required={
            "images": Input("IMAGE", {"tooltip": "The images to write."}),
            "filename_prefix": Input("STRING", prefix),
        },
        hidden=_METADATA,
    )


SAVE_IMAGE = NodeType(
    name="SaveImage",
    display_name="Save Image",
    category="image",
    description="Writes the images as PNG files into the output folder.",
    inputs=_save_image_inputs,
    output_node=True,
    run=_save_image,
)
PREVIEW_IMAGE = NodeType(
    name="PreviewImage",
    display_name="Preview Image",
    category="image",
    description="Writes the images as PNG files into the folder of temporary files.",
    inputs=lambda _: _image_inputs(),
    output_node=True,
    run=_preview_image,
)
SAVE_ANIMATED_WEBP = NodeType(
    name="SaveAnimatedWEBP",
    display_name="SaveAnimatedWEBP",
    python_module="comfy_extras.nodes_images",
    category="image/animation",
    inputs=lambda _: _image_inputs(
        filename_prefix=Input("STRING", {"default": "ComfyUI"}),
        fps=Input("FLOAT", {"default": 6.0, "min": 0.01, "max": 1000.0, "step": 0.01}),
        lossless=Input("BOOLEAN", {"default": True}),
        quality=Input("INT", {"default": 80, "min": 0, "max": 100}),
        method=Input(list(_WEBP_METHODS)),
    ),
    output_node=True,
    run=_save_webp,
)
PREVIEW_ANY = NodeType(
    name="PreviewAny",
    display_name="Preview as Text",
    python_module="comfy_extras.nodes_preview_any",
    category="utils",
    inputs=lambda _: Inputs(required={"source": Input("*", {})}),
    output_node=True,
    run=_preview_any,
)

NODES = (SAVE_IMAGE, PREVIEW_IMAGE, SAVE_ANIMATED_WEBP, PREVIEW_ANY)
