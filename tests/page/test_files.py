"""Files that a person gives to the page: the service finds the workflow in them."""

import io
import json
import math
import random
import struct
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


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("PrimitiveInt", 2**53 + 1),
        ("PrimitiveInt", 2**63 - 1),
        ("PrimitiveFloat", 1.0),
        ("PrimitiveFloat", 0.1),
        ("PrimitiveString", "1.0"),
        ("PrimitiveString", "half of 💥"),
    ],
)
async def test_what_a_file_says_is_submitted_to_the_digit(
    sidecar: Sidecar, visit: Open, kind: str, value: object
) -> None:
    """JavaScript has no whole numbers above 2^53, no 1.0, and an order of its own for such keys."""
    graph = {
        "10": {"class_type": "PreviewAny", "inputs": {"source": ["9", 0]}},
        "9": {"class_type": kind, "inputs": {"value": value}},
    }
    page = await visit(sidecar.url)
    await choose(page, "a.json", json.dumps(graph).encode())
    await notice(page, "good").wait_for()
    (job,) = (await sidecar("GET", "/v1/comfyui/workflows?limit=1")).body["workflows"]
    kept = (await sidecar("GET", f"/v1/comfyui/workflow/{job['workflowId']}/graph")).body["graph"]
    assert json.dumps(kept) == json.dumps(graph)
    assert (await sidecar.ended(job["workflowId"]))["status"] == "completed"


async def test_no_number_or_text_of_a_file_becomes_another(sidecar: Sidecar, visit: Open) -> None:
    """Whole numbers near each power of two, any float, any character, names in any order."""
    drawn = random.Random(4)
    wholes = [drawn.choice((1, -1)) * (2**bits + drawn.randint(-2, 2)) for bits in range(64)]
    floats = [struct.unpack("d", drawn.randbytes(8))[0] for _ in range(100)]
    floats = [each for each in floats if math.isfinite(each)] + [0.0, -0.0, 1e22, 1e-7, 5e-324]
    texts = [
        chr(drawn.choice((drawn.randint(1, 0xD7FF), drawn.randint(0xE000, 0x10FFFF)))) for _ in range(99)
    ]
    values = [*wholes, *floats, *texts]
    names = map(str, drawn.sample(range(1_000), len(values)))
    unknown = dict(
        zip(names, values, strict=True)
    )  # inputs that the class does not have are sent as they are
    graph = {
        "10": {"class_type": "PreviewAny", "inputs": {"source": ["9", 0], **unknown}},
        "9": {"class_type": "PrimitiveString", "inputs": {"value": "a"}},
    }
    page = await visit(sidecar.url)
    await choose(page, "a.json", json.dumps(graph).encode())
    await notice(page, "good").wait_for()
    (job,) = (await sidecar("GET", "/v1/comfyui/workflows?limit=1")).body["workflows"]
    kept = (await sidecar("GET", f"/v1/comfyui/workflow/{job['workflowId']}/graph")).body["graph"]
    assert json.dumps(kept) == json.dumps(graph)
