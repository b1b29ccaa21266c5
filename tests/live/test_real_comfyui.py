"""The test tool itself: what the other live tests take for granted about the ComfyUI that they get."""

import asyncio
import io
import json
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from tests.support.real_comfyui import RealComfyUI
from tests.support.real_comfyui_steps import version

pytestmark = pytest.mark.live

TXT2IMG = Path(__file__).parents[1] / "data" / "workflows" / "txt2img_tiny_ksampler.json"
KSAMPLER, SAVE_IMAGE = "5", "7"
STEPS = 4
RUN_LIMIT = 60
"""Seconds a run may take; two are usual."""


async def test_the_tiny_checkpoint_goes_through_ksampler_and_gives_a_64_pixel_png(
    real_comfyui: RealComfyUI,
) -> None:
    prompt_id, client_id = str(uuid.uuid4()), uuid.uuid4().hex
    async with aiohttp.ClientSession(real_comfyui.url) as session, asyncio.timeout(RUN_LIMIT):
        async with session.ws_connect("/ws", params={"clientId": client_id}) as socket:
            body = {"prompt": json.loads(TXT2IMG.read_text()), "prompt_id": prompt_id, "client_id": client_id}
            async with session.post("/prompt", json=body) as response:
                assert response.status == 200, await response.text()
            events = await _events_until_the_end(socket, prompt_id)
        async with session.get(f"/history/{prompt_id}") as response:
            entry = (await response.json())[prompt_id]
        (image,) = entry["outputs"][SAVE_IMAGE]["images"]
        async with session.get("/view", params=image) as response:
            png = await response.read()

    sampled = [
        e["data"]["value"] for e in events if e["type"] == "progress" and e["data"]["node"] == KSAMPLER
    ]
    assert sampled == list(range(1, STEPS + 1))
    assert entry["status"]["status_str"] == "success"
    with Image.open(io.BytesIO(png)) as picture:
        assert (picture.format, picture.size) == ("PNG", (64, 64))
        colours = picture.getcolors(64 * 64) or []
    assert len(colours) > 100, "noise has many colours; a single one means NaN on the way"


async def test_it_is_the_release_that_was_asked_for(real_comfyui: RealComfyUI) -> None:
    async with aiohttp.ClientSession(real_comfyui.url) as session, session.get("/system_stats") as response:
        stats = await response.json()
    assert stats["system"]["comfyui_version"] == version()
    assert [device["type"] for device in stats["devices"]] == ["cpu"]


async def _events_until_the_end(
    socket: aiohttp.ClientWebSocketResponse, prompt_id: str
) -> list[dict[str, Any]]:
    """All text events of a prompt; ComfyUI's last one is `executing` without a node."""
    events: list[dict[str, Any]] = []
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:
            continue
        event = json.loads(message.data)
        if event["data"].get("prompt_id") == prompt_id:
            events.append(event)
            if event["type"] == "executing" and event["data"]["node"] is None:
                return events
    raise AssertionError(f"the socket closed after {events}")
