"""Nodes that ComfyUI does not have: they take time or fail on purpose, for demos and tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from comfy_mcp.embedded.nodes.base import Input, Inputs, NodeFailure, NodeResult, NodeType, RunContext
from comfy_mcp.embedded.nodes.frames import Frames, check_size

CATEGORY = "comfy-bridge"
MODULE = "comfy_mcp.embedded"


def _slow_image(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    width, height, steps = inputs["width"], inputs["height"], inputs["steps"]
    check_size(width, height, context.config.max_pixels)
    gradient = Image.linear_gradient("L").resize((width, height))
    color = inputs["color"]
    goal = Image.new("RGB", (width, height), ((color >> 16) & 0xFF, (color >> 8) & 0xFF, color & 0xFF))
    start = Image.merge("RGB", (gradient, gradient.transpose(Image.Transpose.FLIP_TOP_BOTTOM), gradient))
    image = start
    for step in range(1, steps + 1):
        context.wait(inputs["step_ms"] / 1000)
        image = Image.blend(start, goal, step / steps)
        context.progress(step, steps, image)
    return NodeResult(values=(Frames((image,)),))


def _model_image(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    context.load(inputs["model"], inputs["load_ms"] / 1000)
    return _slow_image(context, {**inputs, "steps": 1, "color": 0x3366CC})


def _fail(context: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    if inputs.get("until_freed") and context.just_freed:
        return NodeResult(values=(inputs["image"],))
    raise NodeFailure(inputs["message"], kind=inputs["exception_type"])


SLOW_IMAGE = NodeType(
    name="BridgeSlowImage",
    display_name="Slow Image",
    category=CATEGORY,
    description="Makes an image of one colour in steps that take time, with a preview at each.",
    python_module=MODULE,
    inputs=lambda _: Inputs(
        required={
            "width": Input("INT", {"default": 64, "min": 1, "max": 4096, "step": 1}),
            "height": Input("INT", {"default": 64, "min": 1, "max": 4096, "step": 1}),
            "color": Input("INT", {"default": 0x3366CC, "min": 0, "max": 0xFFFFFF, "display": "color"}),
            "steps": Input("INT", {"default": 10, "min": 1, "max": 10_000}),
            "step_ms": Input("INT", {"default": 100, "min": 0, "max": 60_000, "tooltip": "Per step."}),
        },
        optional={"seed": Input("INT", {"default": 0, "min": 0, "max": 0xFFFFFFFFFFFFFFFF})},
    ),
    returns=("IMAGE",),
    run=_slow_image,
)
MODEL_IMAGE = NodeType(
    name="BridgeModelImage",
    display_name="Model Image",
    category=CATEGORY,
    description="Makes an image after a time, which is longer if another model file was loaded last.",
    python_module=MODULE,
    inputs=lambda directories: Inputs(
        required={
            "model": Input(directories.model_files("checkpoints")),
            "width": Input("INT", {"default": 64, "min": 1, "max": 4096, "step": 1}),
            "height": Input("INT", {"default": 64, "min": 1, "max": 4096, "step": 1}),
            "load_ms": Input("INT", {"default": 2000, "min": 0, "max": 60_000}),
            "step_ms": Input("INT", {"default": 100, "min": 0, "max": 60_000}),
        },
        optional={"seed": Input("INT", {"default": 0, "min": 0, "max": 0xFFFFFFFFFFFFFFFF})},
    ),
    returns=("IMAGE",),
    run=_model_image,
)
FAIL = NodeType(
    name="BridgeFail",
    display_name="Fail",
    category=CATEGORY,
    description="Fails with the given message when it runs.",
    python_module=MODULE,
    inputs=lambda _: Inputs(
        required={
            "image": Input("IMAGE"),
            "message": Input("STRING", {"default": "This node fails on purpose."}),
        },
        optional={
            "exception_type": Input("STRING", {"default": "RuntimeError"}),
            "until_freed": Input(
                "BOOLEAN", {"default": False, "tooltip": "Pass right after the engine has freed memory."}
            ),
        },
    ),
    returns=("IMAGE",),
    run=lambda context, inputs: _fail(context, {"exception_type": "RuntimeError", **inputs}),
)

NODES = (SLOW_IMAGE, MODEL_IMAGE, FAIL)
