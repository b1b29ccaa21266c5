"""Scaling: the same pixels on both engines, but for `bicubic`."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from tests.contract.graphs import node
from tests.contract.harness import Engine
from tests.contract.pictures import assert_close, gradient, image_of


@pytest.mark.parametrize(
    ("method", "size", "resampling", "tolerance"),
    [
        ("nearest-exact", (32, 24), Image.Resampling.NEAREST, 1),
        ("nearest-exact", (5, 7), Image.Resampling.NEAREST, 1),
        ("bilinear", (32, 24), Image.Resampling.BILINEAR, 1),
        ("bicubic", (32, 24), Image.Resampling.BICUBIC, 16),
        ("area", (8, 6), Image.Resampling.BOX, 1),
        ("lanczos", (32, 24), Image.Resampling.LANCZOS, 1),
        ("lanczos", (5, 7), Image.Resampling.LANCZOS, 1),
    ],
)
async def test_scale_methods(
    engine: Engine, method: str, size: tuple[int, int], resampling: Image.Resampling, tolerance: int
) -> None:
    """Bicubic kernels differ: ours is Pillow's. All others agree."""
    image, name = await gradient(engine)
    graph = {
        "1": node("LoadImage", image=name),
        "2": node(
            "ImageScale",
            image=["1", 0],
            upscale_method=method,
            width=size[0],
            height=size[1],
            crop="disabled",
        ),
    }
    assert_close(await image_of(engine, graph, "2"), image.resize(size, resampling), tolerance)


async def test_bilinear_looks_at_four_neighbours_even_when_it_makes_smaller(engine: Engine) -> None:
    image, name = await gradient(engine)
    graph = {
        "1": node("LoadImage", image=name),
        "2": node(
            "ImageScale", image=["1", 0], upscale_method="bilinear", width=4, height=3, crop="disabled"
        ),
    }
    # The middle of each 4x4 block is the mean of its four inner pixels.
    expected = Image.new("RGB", (4, 3))
    for x in range(4):
        for y in range(3):
            inner = image.crop((4 * x + 1, 4 * y + 1, 4 * x + 3, 4 * y + 3))
            expected.paste(inner.resize((1, 1), Image.Resampling.BOX), (x, y))
    assert_close(await image_of(engine, graph, "2"), expected)


@pytest.mark.parametrize(
    ("wanted", "size"),
    [((0, 24), (32, 24)), ((8, 0), (8, 6)), ((0, 0), (16, 12)), ((1, 0), (1, 1)), ((7, 0), (7, 5))],
)
async def test_a_side_of_zero_follows_from_the_other(
    engine: Engine, wanted: tuple[int, int], size: tuple[int, int]
) -> None:
    _, name = await gradient(engine)
    scale: dict[str, Any] = {"upscale_method": "area", "width": wanted[0], "height": wanted[1]}
    graph = {
        "1": node("LoadImage", image=name),
        "2": node("ImageScale", image=["1", 0], crop="disabled", **scale),
    }
    assert (await image_of(engine, graph, "2")).size == size


@pytest.mark.parametrize(
    ("size", "kept"), [((6, 12), (5, 0, 11, 12)), ((16, 4), (0, 4, 16, 8)), ((8, 6), (0, 0, 16, 12))]
)
async def test_crop_center_keeps_the_middle(
    engine: Engine, size: tuple[int, int], kept: tuple[int, int, int, int]
) -> None:
    image, name = await gradient(engine)
    graph = {
        "1": node("LoadImage", image=name),
        "2": node(
            "ImageScale",
            image=["1", 0],
            upscale_method="area",
            width=size[0],
            height=size[1],
            crop="center",
        ),
    }
    expected = image.crop(kept).resize(size, Image.Resampling.BOX)
    assert_close(await image_of(engine, graph, "2"), expected)


@pytest.mark.parametrize(("factor", "size"), [(2.0, (32, 24)), (0.3, (5, 4)), (1.0, (16, 12))])
async def test_scale_by(engine: Engine, factor: float, size: tuple[int, int]) -> None:
    _, name = await gradient(engine)
    graph = {
        "1": node("LoadImage", image=name),
        "2": node("ImageScaleBy", image=["1", 0], upscale_method="nearest-exact", scale_by=factor),
    }
    assert (await image_of(engine, graph, "2")).size == size
