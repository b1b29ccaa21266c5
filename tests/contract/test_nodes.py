"""What the nodes compute: the same pixels on both engines, give or take one level."""

from __future__ import annotations

import io
import uuid
from typing import Any

import pytest
from PIL import Image

from tests.contract.harness import Engine, Graph, Json, new_prefix, node
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


async def test_empty_image_has_its_colour_everywhere(engine: Engine) -> None:
    image = await image_of(engine, {"1": solid((18, 52, 86), 10, 6)}, "1")
    assert_close(image, Image.new("RGB", (10, 6), (18, 52, 86)))


async def test_load_image_gives_the_colours_and_the_mask(engine: Engine) -> None:
    stream = io.BytesIO()
    Image.new("RGBA", (5, 4), (10, 20, 30, 55)).save(stream, "PNG")
    name = await uploaded(engine, f"{uuid.uuid4().hex}.png", stream.getvalue())
    graph = {"1": node("LoadImage", image=name), "2": node("MaskToImage", mask=["1", 1])}
    assert_close(await image_of(engine, graph, "1"), Image.new("RGB", (5, 4), (10, 20, 30)))
    assert_close(await image_of(engine, graph, "2"), Image.new("RGB", (5, 4), (200, 200, 200)))


async def test_an_image_without_transparency_has_an_empty_mask_of_64(engine: Engine) -> None:
    _, name = await gradient(engine)
    graph = {"1": node("LoadImage", image=name), "2": node("MaskToImage", mask=["1", 1])}
    assert_close(await image_of(engine, graph, "2"), Image.new("RGB", (64, 64), (0, 0, 0)))


async def test_solid_mask_as_an_image(engine: Engine) -> None:
    graph = {
        "1": node("SolidMask", value=0.5, width=6, height=5),
        "2": node("MaskToImage", mask=["1", 0]),
    }
    assert_close(await image_of(engine, graph, "2"), Image.new("RGB", (6, 5), (127, 127, 127)))


async def test_invert(engine: Engine) -> None:
    image, name = await gradient(engine)
    graph = {"1": node("LoadImage", image=name), "2": node("ImageInvert", image=["1", 0])}
    assert_close(await image_of(engine, graph, "2"), image.point(lambda value: 255 - value))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("normal", UPPER),
        ("multiply", (47, 70, 36)),
        ("screen", (212, 209, 233)),
        ("overlay", (169, 141, 72)),
        ("soft_light", (177, 124, 88)),
        ("difference", (140, 0, 0)),
    ],
)
async def test_blend_modes(engine: Engine, mode: str, expected: Rgb) -> None:
    graph = {
        "1": solid(LOWER),
        "2": solid(UPPER),
        "3": node("ImageBlend", image1=["1", 0], image2=["2", 0], blend_factor=1.0, blend_mode=mode),
    }
    assert_close(await image_of(engine, graph, "3"), Image.new("RGB", (8, 8), expected))


async def test_a_blend_by_half(engine: Engine) -> None:
    graph = {
        "1": solid(LOWER),
        "2": solid(UPPER),
        "3": node("ImageBlend", image1=["1", 0], image2=["2", 0], blend_factor=0.5, blend_mode="normal"),
    }
    assert_close(await image_of(engine, graph, "3"), Image.new("RGB", (8, 8), (130, 140, 135)))


async def test_a_blend_takes_the_size_of_the_first_and_repeats_a_single_image(engine: Engine) -> None:
    graph = {
        "1": solid(LOWER, 12, 6, batch_size=3),
        "2": solid(UPPER, 30, 40),
        "3": node("ImageBlend", image1=["1", 0], image2=["2", 0], blend_factor=1.0, blend_mode="normal"),
    }
    images = await images_of(engine, graph, "3")
    assert len(images) == 3
    for image in images:
        assert_close(image, Image.new("RGB", (12, 6), UPPER))


async def test_blending_batches_of_two_lengths_fails(engine: Engine) -> None:
    graph = {
        "1": solid(LOWER, batch_size=2),
        "2": solid(UPPER, batch_size=3),
        "3": node("ImageBlend", image1=["1", 0], image2=["2", 0], blend_factor=1.0, blend_mode="normal"),
        "4": node("PreviewImage", images=["3", 0]),
    }
    entry, _ = await engine.run(graph)
    assert entry["status"]["messages"][-1][1]["exception_type"] == "RuntimeError"


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ({"width": 4, "height": 3, "x": 2, "y": 5}, (2, 5, 6, 8)),
        ({"width": 99, "height": 99, "x": 10, "y": 10}, (10, 10, 16, 12)),
        ({"width": 5, "height": 5, "x": 500, "y": 500}, (15, 11, 16, 12)),
    ],
)
async def test_crop(engine: Engine, box: Json, expected: tuple[int, int, int, int]) -> None:
    image, name = await gradient(engine)
    graph = {"1": node("LoadImage", image=name), "2": node("ImageCrop", image=["1", 0], **box)}
    assert_close(await image_of(engine, graph, "2"), image.crop(expected))


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


async def test_batches_are_joined_in_the_size_of_the_first_and_taken_apart(engine: Engine) -> None:
    graph = {
        "1": solid(LOWER, batch_size=2),
        "2": solid(UPPER, 32, 16, batch_size=2),
        "3": node("ImageBatch", image1=["1", 0], image2=["2", 0]),
        "4": node("ImageFromBatch", image=["3", 0], batch_index=1, length=2),
        "5": node("ImageFromBatch", image=["3", 0], batch_index=99, length=99),
        "6": node("RepeatImageBatch", image=["5", 0], amount=3),
    }
    first, second = Image.new("RGB", (8, 8), LOWER), Image.new("RGB", (8, 8), UPPER)
    for source, expected in [
        ("3", [first, first, second, second]),
        ("4", [first, second]),
        ("5", [second]),
        ("6", [second] * 3),
    ]:
        images = await images_of(engine, graph, source)
        assert len(images) == len(expected)
        for found, wanted in zip(images, expected, strict=True):
            assert_close(found, wanted)


async def test_an_animation_has_its_frames_and_says_so(engine: Engine) -> None:
    graph = {
        "1": solid(LOWER),
        "2": solid(UPPER),
        "3": node("ImageBatch", image1=["1", 0], image2=["2", 0]),
        "4": node(
            "SaveAnimatedWEBP",
            images=["3", 0],
            filename_prefix=new_prefix(),
            fps=5.0,
            lossless=True,
            quality=80,
            method="fastest",
        ),
    }
    entry, _ = await engine.run(graph)
    output = entry["outputs"]["4"]
    (saved,) = output["images"]
    assert output["animated"] == [True]
    assert saved["filename"].endswith("_00001_.webp")
    answer = await view(engine, saved["filename"], subfolder=saved["subfolder"])
    assert answer.content_type == "image/webp"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert getattr(image, "n_frames", 1) == 2
        image.seek(1)
        image.load()
        assert image.info["duration"] == 200
        assert_close(image.convert("RGB"), Image.new("RGB", (8, 8), UPPER))


async def test_names_are_numbered_on_and_tokens_filled_in(engine: Engine) -> None:
    prefix = new_prefix()
    seen = []
    for color, wanted in [(LOWER, prefix), (UPPER, prefix), (LOWER, f"{prefix}/%width%x%height%")]:
        graph = {
            "1": solid(color, 9, 7, batch_size=2),
            "2": node("SaveImage", images=["1", 0], filename_prefix=wanted),
        }
        entry, _ = await engine.run(graph)
        seen += [(image["subfolder"], image["filename"]) for image in entry["outputs"]["2"]["images"]]
    stem = prefix.removeprefix("contract/")
    assert seen == [
        ("contract", f"{stem}_00001_.png"),
        ("contract", f"{stem}_00002_.png"),
        ("contract", f"{stem}_00003_.png"),
        ("contract", f"{stem}_00004_.png"),
        (prefix, "9x7_00001_.png"),
        (prefix, "9x7_00002_.png"),
    ]


async def test_text_is_joined(engine: Engine) -> None:
    graph = {
        "1": node("PrimitiveString", value="a"),
        "2": node("StringConcatenate", string_a=["1", 0], string_b="b", delimiter="-"),
        "3": node("PreviewAny", source=["2", 0]),
    }
    entry, _ = await engine.run(graph)
    assert entry["outputs"]["3"] == {"text": ["a-b"]}


@pytest.mark.parametrize(
    ("class_type", "value", "shown"),
    [
        ("PrimitiveInt", "7", "7"),
        ("PrimitiveFloat", 2, "2.0"),
        ("PrimitiveBoolean", 1, "True"),
        ("PrimitiveString", 5, "5"),
        ("PrimitiveStringMultiline", "x\ny", "x\ny"),
    ],
)
async def test_primitives(engine: Engine, class_type: str, value: object, shown: str) -> None:
    graph = {"1": node(class_type, value=value), "2": node("PreviewAny", source=["1", 0])}
    entry, _ = await engine.run(graph)
    assert entry["outputs"]["2"] == {"text": [shown]}
