"""Files that a person gives to the page: the service finds the workflow in them."""

import io
import json
from collections.abc import Callable

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.page.seen import Open, choose, notice
from tests.support.graphs import picture
from tests.support.sidecar import Sidecar

pytestmark = pytest.mark.asyncio(loop_scope="package")


def png() -> bytes:
    """As ComfyUI writes it: Python's JSON, which may have NaN."""
    info, out = PngInfo(), io.BytesIO()
    graph = picture()
    graph["1"]["is_changed"] = [float("nan")]
    info.add_text("prompt", json.dumps(graph))
    Image.new("RGB", (2, 2)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def webp() -> bytes:
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0110] = f"prompt:{json.dumps(picture())}"
    Image.new("RGB", (2, 2)).save(out, "WEBP", exif=exif)
    return out.getvalue()


def utf16() -> bytes:
    return json.dumps(picture()).encode("utf-16")


@pytest.mark.parametrize("made", [png, webp, utf16], ids=lambda made: made.__name__)
async def test_a_workflow_is_found_in_any_file(
    sidecar: Sidecar, visit: Open, made: Callable[[], bytes]
) -> None:
    page = await visit(sidecar.url)
    await page.locator("#priority").select_option("low")
    await choose(page, "a.bin", made())
    await notice(page, "good").wait_for()
    (job,) = (await sidecar("GET", "/v1/comfyui/workflows?limit=1")).body["workflows"]
    assert job["priority"] == "low"
    assert (await sidecar.ended(job["workflowId"]))["status"] == "completed"
