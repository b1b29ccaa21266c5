"""One image onto another: the same pixels on both engines."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from tests.contract.graphs import Graph, Json, node
from tests.contract.harness import Engine
from tests.contract.pictures import LOWER, UPPER, assert_close, image_of, images_of, solid


def _composite(**more: Any) -> Json:
    inputs: Json = {"destination": ["1", 0], "source": ["2", 0], "x": 0, "y": 0, "resize_source": False}
    return node("ImageCompositeMasked", **(inputs | more))


@pytest.mark.parametrize(("x", "y"), [(0, 0), (3, 5), (14, 10), (500, 500)])
async def test_the_source_covers_and_what_hangs_over_is_cut_off(engine: Engine, x: int, y: int) -> None:
    graph: Graph = {"1": solid(LOWER, 16, 12), "2": solid(UPPER, 6, 4), "3": _composite(x=x, y=y)}
    expected = Image.new("RGB", (16, 12), LOWER)
    expected.paste(UPPER, (x, y, x + 6, y + 4))
    assert_close(await image_of(engine, graph, "3"), expected)


async def test_the_source_takes_the_size_of_the_destination_when_asked(engine: Engine) -> None:
    graph: Graph = {"1": solid(LOWER, 16, 12), "2": solid(UPPER, 6, 4), "3": _composite(resize_source=True)}
    assert_close(await image_of(engine, graph, "3"), Image.new("RGB", (16, 12), UPPER))


@pytest.mark.parametrize(("value", "expected"), [(1.0, UPPER), (0.0, LOWER), (0.5, (130, 140, 135))])
async def test_a_mask_says_how_much_is_covered(
    engine: Engine, value: float, expected: tuple[int, int, int]
) -> None:
    graph: Graph = {
        "1": solid(LOWER, 16, 12),
        "2": solid(UPPER, 16, 12),
        "4": node("SolidMask", value=value, width=3, height=3),
        "3": _composite(mask=["4", 0]),
    }
    assert_close(await image_of(engine, graph, "3"), Image.new("RGB", (16, 12), expected))


async def test_every_image_of_the_destination_is_covered(engine: Engine) -> None:
    graph: Graph = {"1": solid(LOWER, 8, 8, batch_size=3), "2": solid(UPPER), "3": _composite()}
    images = await images_of(engine, graph, "3")
    assert len(images) == 3
    for image in images:
        assert_close(image, Image.new("RGB", (8, 8), UPPER))
