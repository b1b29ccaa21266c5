"""What the nodes compute: the same pixels on both engines, give or take one level."""

from __future__ import annotations

import io
import uuid

import pytest
from PIL import Image

from tests.contract.graphs import Json, new_prefix, node
from tests.contract.harness import Engine
from tests.contract.pictures import LOWER, UPPER, Rgb, assert_close, gradient, image_of, images_of, solid
from tests.contract.test_files import uploaded, view


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
