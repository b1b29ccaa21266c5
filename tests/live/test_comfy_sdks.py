"""Comfy's own SDKs on the real ComfyUI: upload, run, follow, download, cancel."""

import json
from pathlib import Path
from typing import Any

import pytest
from comfy_sdk import AsyncComfy
from comfy_sdk.events import Progress, StatusChange

from tests.support.comfy_sdks import png, run_typescript, showing
from tests.support.real_comfyui import CHECKPOINT, RealComfyUI
from tests.support.sidecar import open_sidecar

pytestmark = pytest.mark.live

KEY = "a-key-for-tests-0123456789"
EXAMPLE = Path(__file__).parents[2] / "examples" / "txt2img_sd15.json"


def sampled(steps: int) -> dict[str, Any]:
    """A picture by the tiny checkpoint."""
    graph: dict[str, Any] = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    for node in graph.values():
        changes = {"ckpt_name": CHECKPOINT, "steps": steps, "width": 64, "height": 64}
        node["inputs"] |= {name: value for name, value in changes.items() if name in node["inputs"]}
    return graph


async def test_python(real_comfyui: RealComfyUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_sidecar(tmp_path, engine_url=real_comfyui.url, http_key=KEY) as sidecar:
        monkeypatch.setenv("COMFY_BASE_URL", sidecar.url)
        async with AsyncComfy(api_key=KEY) as client:
            asset = client.assets.from_bytes(png(), filename="red.png")
            shown = await client.run(client.workflows.from_json(showing(asset)))
            assert (await shown.outputs[0].to_bytes()).startswith(b"\x89PNG")
            job = await client.submit(client.workflows.from_json(sampled(4)))
            events = [event async for event in job.events()]
            assert events[-1] == StatusChange(status="succeeded")
            assert [event for event in events if isinstance(event, Progress)]
            assert len((await job.result()).outputs) == 1
            long = await client.submit(client.workflows.from_json(sampled(10_000)))
            await sidecar.until_running(long.id, headers={"X-API-Key": KEY})
            await long.cancel()
            assert (await long.wait(60)).status == "canceled"


async def test_typescript(real_comfyui: RealComfyUI, tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, engine_url=real_comfyui.url, http_key=KEY) as sidecar:
        await run_typescript(tmp_path / "script", sidecar.url, KEY, slow=sampled(10_000))
