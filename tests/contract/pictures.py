"""Pictures to compute with, and how to compare them."""

from __future__ import annotations

import io
import uuid

from PIL import Image

from tests.contract.graphs import Graph, Json, new_prefix, node
from tests.contract.harness import Engine
from tests.contract.test_files import uploaded, view

Rgb = tuple[int, int, int]
LOWER: Rgb = (200, 100, 40)
UPPER: Rgb = (60, 180, 230)


def solid(color: Rgb, width: int = 8, height: int = 8, batch_size: int = 1) -> Json:
    value = color[0] << 16 | color[1] << 8 | color[2]
    return node("EmptyImage", width=width, height=height, batch_size=batch_size, color=value)


async def images_of(engine: Engine, graph: Graph, source: str) -> list[Image.Image]:
    """Run a graph and fetch what its node `source` makes."""
    graph = {**graph, "save": node("SaveImage", images=[source, 0], filename_prefix=new_prefix())}
    entry, _ = await engine.run(graph)
    assert entry["status"]["completed"], entry["status"]["messages"][-1]
    images = []
    for saved in entry["outputs"]["save"]["images"]:
        answer = await view(engine, saved["filename"], subfolder=saved["subfolder"])
        images.append(Image.open(io.BytesIO(answer.content)).convert("RGB"))
    return images


async def image_of(engine: Engine, graph: Graph, source: str) -> Image.Image:
    (image,) = await images_of(engine, graph, source)
    return image


async def gradient(engine: Engine, size: tuple[int, int] = (16, 12)) -> tuple[Image.Image, str]:
    """A picture in which every pixel is different, uploaded under a new name."""
    image = Image.new("RGB", size)
    for x in range(size[0]):
        for y in range(size[1]):
            image.putpixel((x, y), (x * 15, y * 20, (x * y * 3) % 256))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return image, await uploaded(engine, f"{uuid.uuid4().hex}.png", stream.getvalue())


def assert_close(found: Image.Image, expected: Image.Image, tolerance: int = 1) -> None:
    assert found.size == expected.size
    difference = max(
        abs(a - b) for a, b in zip(found.tobytes(), expected.convert("RGB").tobytes(), strict=True)
    )
    assert difference <= tolerance
