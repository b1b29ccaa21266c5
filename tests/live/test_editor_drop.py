"""A picture that the bridge made, dropped on ComfyUI's editor in Chromium, restores the workflow.

The editor is the one of tests/editor (from PyPI, downloaded into the cache once).
"""

import base64
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from tests.editor.frontend import open_editor
from tests.editor.recorded import DATA, VERSION
from tests.live.test_what_travels import as_saved
from tests.operations.conftest import Bench
from tests.support.real_comfyui import RealComfyUI

pytestmark = pytest.mark.live

DROP = """
async (picture) => {
    const bytes = Uint8Array.from(atob(picture), (each) => each.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], "made.png", { type: "image/png" }));
    const app = window.app ?? window.comfyAPI.app.app;
    app.graph.clear();
    document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}
"""
RESTORED = "() => (window.app ?? window.comfyAPI.app.app).graph.nodes.length > 0"
SAVED = "() => JSON.stringify((window.app ?? window.comfyAPI.app.app).graph.serialize())"


async def picture_of(workflow: dict[str, Any], url: str, folder: Path) -> bytes:
    async with open_runtime(load_settings(engine_urls=url, state_dir=folder / "state")) as services:
        call = Bench(services, Caller(client=ClientId("tester"), surface="test"))
        submitted = await call("submit_workflow", workflow=workflow)
        state = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=45)
        assert state.status == "completed", state.error
        data: bytes = (await call("read_output", output_id=state.outputs[0].output_id)).data
    return data


async def dropped(page: Page, picture: bytes) -> dict[str, Any]:
    """What the editor would save after the drop."""
    await page.evaluate(DROP, base64.b64encode(picture).decode())
    await page.wait_for_function(RESTORED)
    saved: dict[str, Any] = json.loads(await page.evaluate(SAVED))
    return saved


def layout(workflow: dict[str, Any]) -> dict[int, Any]:
    return {
        node["id"]: (node["type"], [round(each) for each in node["pos"]], node["widgets_values"][:4])
        for node in workflow["nodes"]
    }


@pytest.mark.timeout(600)  # the editor's first download, over a slow network
async def test_a_dropped_picture_restores_its_workflow(real_comfyui: RealComfyUI, tmp_path: Path) -> None:
    original = as_saved()
    picture = await picture_of(original, real_comfyui.url, tmp_path)
    object_info = gzip.decompress((DATA / "object_info_0.33.0.json.gz").read_bytes())
    with tempfile.TemporaryDirectory() as home:  # a short path: Chromium has a socket there
        async with open_editor(VERSION, object_info, Path(home)) as page:
            restored = await dropped(page, picture)
    assert layout(restored) == layout(original)
    assert [link[1:] for link in restored["links"]] == [link[1:] for link in original["links"]]
