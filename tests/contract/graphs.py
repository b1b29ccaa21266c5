"""Graphs to submit, none of which is ever cached by accident."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

Json = dict[str, Any]
Graph = dict[str, Json]

_colors = itertools.count(1)


def node(class_type: str, **inputs: Any) -> Json:
    return {"class_type": class_type, "inputs": inputs}


def new_id() -> str:
    return str(uuid.uuid4())


def new_prefix() -> str:
    """A prefix that no other test uses: its first file has the number 1."""
    return f"contract/{uuid.uuid4().hex[:12]}"


def new_color() -> int:
    """A colour that no other test uses, so that nothing is cached."""
    return next(_colors)


def empty_image(width: int = 16, height: int = 8, batch_size: int = 1, color: int | None = None) -> Json:
    shown = new_color() if color is None else color
    return node("EmptyImage", width=width, height=height, batch_size=batch_size, color=shown)


def quick(prefix: str = "contract/quick") -> Graph:
    """A graph of two nodes in a row that is never cached."""
    return {"1": empty_image(), "2": node("SaveImage", images=["1", 0], filename_prefix=prefix)}


def slow_embedded(steps: int, prefix: str) -> Graph:
    inputs = {"width": 64, "height": 64, "color": new_color(), "steps": steps, "step_ms": 30}
    return {
        "5": {"class_type": "BridgeSlowImage", "inputs": inputs},
        "7": node("SaveImage", images=["5", 0], filename_prefix=prefix),
    }


def slow_real(steps: int, prefix: str) -> Graph:
    """ComfyUI has no slow node without a model, so a tiny model of random weights has to sample."""
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name="tiny-random-sd15.ckpt"),
        "2": node("CLIPTextEncode", clip=["1", 1], text="a lighthouse"),
        "4": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "5": node(
            "KSampler",
            model=["1", 0],
            seed=new_color(),
            steps=steps,
            cfg=1.0,
            sampler_name="euler",
            scheduler="normal",
            positive=["2", 0],
            negative=["2", 0],
            latent_image=["4", 0],
            denoise=1.0,
        ),
        "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", images=["6", 0], filename_prefix=prefix),
    }
