"""Text to image for the embedded engine: nodes declared as ComfyUI's, and pictures of one colour."""

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from comfy_mcp.embedded.directories import Directories
from comfy_mcp.embedded.nodes import NODE_TYPES, NodeType
from comfy_mcp.embedded.nodes.base import Input, Inputs, NodeResult, Run, RunContext
from comfy_mcp.embedded.nodes.frames import Frames

DECLARED = json.loads((Path(__file__).parents[1] / "data" / "object_info_excerpt.json").read_text())


def _load(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult(values=("model", "clip", "vae"))


def _encode(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult(values=(inputs["text"],))


def _latent(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult(values=((inputs["width"], inputs["height"], 0),))


def _sample(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    """A colour that prompt and seed decide."""
    width, height, _ = inputs["latent_image"]
    color = zlib.crc32(f"{inputs['positive']}{inputs['seed']}".encode()) & 0xFFFFFF
    for step in range(1, inputs["steps"] + 1):
        context.progress(step, inputs["steps"])
    return NodeResult(values=((width, height, color),))


def _decode(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    width, height, color = inputs["samples"]
    return NodeResult(values=(Frames((Image.new("RGB", (width, height), f"#{color:06x}"),)),))


def _declared(name: str) -> Callable[[Directories], Inputs]:
    def inputs(directories: Directories) -> Inputs:
        required = {each: Input(*spec) for each, spec in DECLARED[name]["input"]["required"].items()}
        if "text" in required:
            required["text"] = Input("STRING", {"multiline": True})
        if "ckpt_name" in required:
            required["ckpt_name"] = Input(directories.model_files("checkpoints"), {})
        return Inputs(required=required)

    return inputs


def _node(name: str, run: Run) -> NodeType:
    returns = tuple(DECLARED[name]["output"])
    return NodeType(
        name=name,
        display_name=name,
        category="sampling",
        inputs=_declared(name),
        run=run,
        returns=returns,
    )


SAMPLING_NODES: Mapping[str, NodeType] = {
    **NODE_TYPES,
    "CheckpointLoaderSimple": _node("CheckpointLoaderSimple", _load),
    "CLIPTextEncode": _node("CLIPTextEncode", _encode),
    "EmptyLatentImage": _node("EmptyLatentImage", _latent),
    "KSampler": _node("KSampler", _sample),
    "VAEDecode": _node("VAEDecode", _decode),
}
