"""Records runs of a real ComfyUI for bench/time_left.py: `python -m bench.recording NAME` adds to its file.

They are what people run one after the other: other words, sizes, steps and batches, a second pass, an upscale
without a model, an animation; and ComfyUI is started anew in between. COMFYUI_SRC says which ComfyUI.
"""

import argparse
import asyncio
import gzip
import json
import random
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp

from bench.time_left import RUNS
from comfy_mcp.domain.events import (
    EngineEvent,
    NodeExecuted,
    NodeProgressed,
    NodesCached,
    NodeStarted,
    PromptEnded,
    PromptStarted,
)
from comfy_mcp.places.comfyui.wire import Decoder
from tests.support.real_comfyui import CHECKPOINT, RealComfyUI

SITTINGS, OF_EACH = 2, 14
"""How many times ComfyUI is started, and how many workflows it runs each time."""

SIZES = ((64, 64), (96, 64), (96, 96), (128, 128))
STEPS = (4, 6, 10, 16)
BATCHES = (1, 1, 1, 2)


def sitting(seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is run, with the words for it."""
    chance = random.Random(seed)
    for number in range(OF_EACH):
        width, height = chance.choice(SIZES)
        steps, batch = chance.choice(STEPS), chance.choice(BATCHES)
        graph = picture(width, height, steps, batch, seed=100 * seed + number)
        what = f"{width}x{height}, {steps} steps, {batch} at once"
        match chance.randrange(6):
            case 0:
                yield f"two passes, {what}", graph | second_pass(steps // 2, seed=number)
            case 1:
                yield f"upscale {width}x{height}", upscale(width, height, color=number)
            case 2:
                yield f"animation, {what}", graph | animation()
            case _:
                yield what, graph


def picture(width: int, height: int, steps: int, batch: int, *, seed: int) -> dict[str, Any]:
    latent = {"width": width, "height": height, "batch_size": batch}
    return {
        "1": _node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "2": _node("CLIPTextEncode", clip=["1", 1], text=f"a lighthouse, {seed}"),
        "3": _node("CLIPTextEncode", clip=["1", 1], text="blurry"),
        "4": _node("EmptyLatentImage", **latent),
        "5": sampler(["4", 0], steps, seed=seed, denoise=1.0),
        "6": _node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "7": _node("SaveImage", images=["6", 0], filename_prefix="bench/picture"),
    }


def sampler(latent: list[Any], steps: int, *, seed: int, denoise: float) -> dict[str, Any]:
    how = {"cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": denoise}
    given = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": latent}
    return _node("KSampler", seed=seed, steps=steps, **how, **given)


def second_pass(steps: int, *, seed: int) -> dict[str, Any]:
    """Half as large again, and drawn over."""
    return {
        "8": _node("LatentUpscaleBy", samples=["5", 0], upscale_method="bilinear", scale_by=1.5),
        "9": sampler(["8", 0], max(steps, 2), seed=seed, denoise=0.6),
        "6": _node("VAEDecode", samples=["9", 0], vae=["1", 2]),
    }


def animation() -> dict[str, Any]:
    how = {"fps": 6.0, "lossless": True, "quality": 90, "method": "default"}
    return {"8": _node("SaveAnimatedWEBP", images=["6", 0], filename_prefix="bench/animation", **how)}


def upscale(width: int, height: int, *, color: int) -> dict[str, Any]:
    return {
        "1": _node("EmptyImage", width=width, height=height, batch_size=1, color=color),
        "2": _node("ImageScaleBy", image=["1", 0], upscale_method="lanczos", scale_by=8.0),
        "3": _node("SaveImage", images=["2", 0], filename_prefix="bench/upscale"),
    }


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


async def record(url: str, graph: dict[str, Any]) -> list[list[Any]]:
    """What the engine says of one run, with milliseconds since it began."""
    client, seen, begin = uuid.uuid4().hex, list[list[Any]](), 0.0
    async with (
        aiohttp.ClientSession(url) as session,
        session.ws_connect("/ws", params={"clientId": client}, max_msg_size=0) as socket,
        session.post("/prompt", json={"prompt": graph, "client_id": client}) as answer,
    ):
        assert answer.status == 200, await answer.text()
        async for event in _events(socket):
            words = _words(event)
            if words is None:
                continue
            begin = begin or time.monotonic()
            seen.append([round((time.monotonic() - begin) * 1000), *words])
            if words == ("end",):
                return seen
    raise ConnectionError("the socket closed before the end")


async def _events(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[EngineEvent]:
    decoder = Decoder()
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            for event in decoder.text(message.data):
                yield event


def _words(event: EngineEvent) -> tuple[Any, ...] | None:
    """In the form that bench/time_left.py reads. None for a message that does not concern progress."""
    match event:
        case PromptStarted():
            return ("start",)
        case NodesCached(nodes=nodes):
            return ("cached", list(nodes))
        case NodeStarted(node=node):
            return ("node", node)
        case NodeProgressed(node=node, value=value, maximum=maximum):
            return ("step", node, value, maximum)
        case NodeExecuted(node=node):
            return ("executed", node)
        case PromptEnded():
            return ("end",)
        case _:
            return None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.recording", description="Record runs of ComfyUI.")
    parser.add_argument("engine", help="its name in the report, such as 'ComfyUI 0.3.75'")
    engine = parser.parse_args().engine
    kept = gzip.decompress(RUNS.read_bytes()).decode() if RUNS.exists() else ""
    for number in range(SITTINGS):
        with tempfile.TemporaryDirectory() as folder, RealComfyUI(Path(folder)) as comfyui:
            for what, graph in sitting(number):
                events = asyncio.run(record(comfyui.url, graph))
                print(f"{events[-1][0]:6} ms  {what}", flush=True)
                run = {"engine": engine, "what": what, "graph": graph, "events": events}
                kept += json.dumps(run, separators=(",", ":")) + "\n"
    RUNS.write_bytes(gzip.compress(kept.encode(), mtime=0))


if __name__ == "__main__":
    main()
