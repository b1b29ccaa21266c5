"""GET /view and the uploads."""

from __future__ import annotations

import io
import json
import uuid
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from PIL import Image

from tests.contract.graphs import empty_image, new_prefix, node
from tests.contract.harness import Answer, Engine

HALF_RED = (255, 0, 0, 128)


def png(color: tuple[int, ...] = HALF_RED, size: tuple[int, int] = (4, 3)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA" if len(color) == 4 else "RGB", size, color).save(stream, "PNG")
    return stream.getvalue()


def new_name(suffix: str = ".png") -> str:
    return f"{uuid.uuid4().hex}{suffix}"


async def upload(
    engine: Engine, name: str, content: bytes, *, path: str = "/upload/image", **fields: str
) -> Answer:
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("image", content, filename=name)
    for key, value in fields.items():
        form.add_field(key, value)
    return await engine.request("POST", path, data=form)


async def uploaded(engine: Engine, name: str, content: bytes, **fields: str) -> str:
    answer = await upload(engine, name, content, **fields)
    assert answer.status == 200, answer.text
    stored: str = answer.json["name"]
    return stored


async def view(engine: Engine, filename: str, **options: Any) -> Answer:
    query = "&".join(f"{key}={quote(str(value))}" for key, value in options.items() if key != "headers")
    return await engine.request(
        "GET", f"/view?filename={quote(filename)}&{query}", headers=options.get("headers")
    )


def pixel(content: bytes, position: tuple[int, int] = (0, 0)) -> tuple[str | None, str, Any]:
    with Image.open(io.BytesIO(content)) as image:
        return image.format, image.mode, image.getpixel(position)


async def test_a_saved_image_is_seen_under_its_name_subfolder_and_type(engine: Engine) -> None:
    prefix = new_prefix()
    graph = {
        "1": empty_image(color=0x102030),
        "2": node("SaveImage", images=["1", 0], filename_prefix=prefix),
    }
    entry, _ = await engine.run(graph)
    (saved,) = entry["outputs"]["2"]["images"]
    answer = await view(engine, saved["filename"], subfolder=saved["subfolder"], type=saved["type"])
    assert (answer.status, answer.content_type) == (200, "image/png")
    assert pixel(answer.content) == ("PNG", "RGB", (0x10, 0x20, 0x30))
    without_subfolder = await view(engine, saved["filename"], type="output")
    assert (without_subfolder.status, without_subfolder.content) == (404, b"")


async def test_a_saved_png_carries_the_graph_and_the_extra_info(engine: Engine) -> None:
    graph = {
        "1": empty_image(),
        "2": node("SaveImage", images=["1", 0], filename_prefix=new_prefix()),
    }
    extra = {"extra_pnginfo": {"workflow": {"nodes": []}, "note": "mine"}}
    entry, _ = await engine.run(graph, extra_data=extra)
    (saved,) = entry["outputs"]["2"]["images"]
    answer = await view(engine, saved["filename"], subfolder=saved["subfolder"])
    with Image.open(io.BytesIO(answer.content)) as image:
        text = {key: json.loads(value) for key, value in image.info.items() if isinstance(value, str)}
    assert text == {"prompt": graph, "workflow": {"nodes": []}, "note": "mine"}


async def test_a_file_is_served_in_parts(engine: Engine) -> None:
    name = await uploaded(engine, new_name(".txt"), b"0123456789")
    for part, status, content in [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=-2", 206, b"89"),
        ("bytes=8-", 206, b"89"),
        ("bytes=99-", 416, b""),
    ]:
        answer = await view(engine, name, type="input", headers={"Range": part})
        assert (answer.status, answer.content) == (status, content), part
    whole = await engine.request("HEAD", f"/view?filename={name}&type=input")
    assert (whole.status, whole.content, whole.headers["Content-Length"]) == (200, b"", "10")
    assert whole.headers["Content-Disposition"] == f'filename="{name}"'


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 404),
        ("filename=", 400),
        ("filename=nope.png", 404),
        ("filename=nope.png&type=nosuch", 400),
        ("filename=nope.png&type=", 400),
        ("filename=../x.png&subfolder=a", 400),
        ("filename=/etc/passwd", 400),
        ("filename=..%252f..%252fetc/passwd", 400),
        ("filename=a/../b", 400),
        ("filename=passwd&subfolder=/etc", 403),
        ("filename=passwd&subfolder=../../../../../../etc", 403),
        ("filename=x&subfolder=..", 403),
        ("filename=comfyui.db&subfolder=../user&type=output", 403),
        ("filename=.&type=output", 404),
    ],
)
async def test_what_cannot_be_seen(engine: Engine, query: str, status: int) -> None:
    answer = await engine.request("GET", f"/view?{query}")
    assert (answer.status, answer.content) == (status, b"")


async def test_a_name_may_carry_its_type_in_brackets(engine: Engine) -> None:
    name = await uploaded(engine, new_name(), png())
    assert (await view(engine, f"{name} [input]")).status == 200
    assert (await view(engine, f"{name} [temp]", type="input")).status == 404


@pytest.mark.parametrize(
    ("preview", "content_type"),
    [
        ("webp", "image/webp"),
        ("webp;50", "image/webp"),
        ("webp;abc", "image/webp"),
        ("jpeg", "image/jpeg"),
        ("jpeg;10", "image/jpeg"),
        ("png", "image/webp"),
    ],
)
async def test_previews_are_webp_or_jpeg(engine: Engine, preview: str, content_type: str) -> None:
    name = await uploaded(engine, new_name(), png())
    answer = await view(engine, name, type="input", preview=preview)
    assert (answer.status, answer.content_type) == (200, content_type)
    assert answer.headers["Content-Disposition"] == f'filename="{name}"'
    image_format, mode, _ = pixel(answer.content)
    assert image_format == content_type.removeprefix("image/").upper()
    assert mode == ("RGB" if image_format == "JPEG" else "RGBA")


async def test_a_preview_of_what_is_no_image_is_a_500(engine: Engine) -> None:
    name = await uploaded(engine, new_name(".txt"), b"hello")
    assert (await view(engine, name, type="input")).content_type == "text/plain"
    assert (await view(engine, name, type="input", preview="webp")).status == 500
    assert (await view(engine, name, type="input", channel="rgb")).status == 500


async def test_channels_are_seen_apart(engine: Engine) -> None:
    name = await uploaded(engine, new_name(), png())
    seen = {
        channel: pixel((await view(engine, name, type="input", channel=channel)).content)
        for channel in ("rgb", "a", "rgba")
    }
    assert seen == {
        "rgb": ("PNG", "RGB", (255, 0, 0)),
        "a": ("PNG", "RGBA", (0, 0, 0, 128)),
        "rgba": ("PNG", "RGBA", HALF_RED),
    }


async def test_pages_are_served_as_bytes_only(engine: Engine) -> None:
    name = await uploaded(engine, new_name(".html"), b"<script>alert(1)</script>")
    answer = await view(engine, name, type="input")
    assert (answer.status, answer.content_type) == (200, "application/octet-stream")


async def test_an_upload_is_answered_with_where_it_went(engine: Engine) -> None:
    name = new_name()
    answer = await upload(engine, name, png())
    assert answer.status == 200
    assert answer.json == {"name": name, "subfolder": "", "type": "input"}
    elsewhere = await upload(engine, name, png(), subfolder="a/b", type="temp")
    assert elsewhere.json == {"name": name, "subfolder": "a/b", "type": "temp"}
    assert (await view(engine, name, type="temp", subfolder="a/b")).content == png()


async def test_the_same_bytes_keep_their_name_and_others_get_a_new_one(engine: Engine) -> None:
    name = new_name()
    stem = name.removesuffix(".png")
    first, second, third = png((1, 0, 0)), png((2, 0, 0)), png((3, 0, 0))
    assert await uploaded(engine, name, first) == name
    assert await uploaded(engine, name, first) == name
    assert await uploaded(engine, name, second) == f"{stem} (1).png"
    assert await uploaded(engine, name, second) == f"{stem} (1).png"
    assert await uploaded(engine, name, third) == f"{stem} (2).png"
    assert (await view(engine, name, type="input")).content == first


@pytest.mark.parametrize(("overwrite", "kept"), [("true", True), ("1", True), ("yes", False), ("", False)])
async def test_overwriting_has_to_be_asked_for(engine: Engine, overwrite: str, kept: bool) -> None:
    name = new_name()
    await uploaded(engine, name, png((1, 0, 0)))
    stored = await uploaded(engine, name, png((2, 0, 0)), overwrite=overwrite)
    assert (stored == name) is kept


async def test_any_file_may_be_uploaded(engine: Engine) -> None:
    for name in (new_name(".txt"), new_name(""), new_name(".a.b")):
        assert await uploaded(engine, name, b"hello") == name


@pytest.mark.parametrize("subfolder", ["../../evil", "/etc", ".."])
async def test_an_upload_cannot_leave_its_folder(engine: Engine, subfolder: str) -> None:
    answer = await upload(engine, new_name(), png(), subfolder=subfolder)
    assert (answer.status, answer.content) == (400, b"")


async def test_an_upload_cannot_leave_its_folder_by_its_name(engine: Engine) -> None:
    answer = await upload(engine, f"../{new_name()}", png())
    assert (answer.status, answer.content) == (400, b"")


async def test_an_upload_without_a_file_is_refused(engine: Engine) -> None:
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("another", png(), filename=new_name())
    answer = await engine.request("POST", "/upload/image", data=form)
    assert (answer.status, answer.content) == (400, b"")


async def test_an_upload_of_no_known_type_is_a_500(engine: Engine) -> None:
    assert (await upload(engine, new_name(), png(), type="nosuch")).status == 500


async def test_an_uploaded_mask_gives_its_transparency_to_the_image(engine: Engine) -> None:
    name = await uploaded(engine, new_name(), png((10, 20, 30)))
    reference = json.dumps({"filename": name, "type": "input"})
    answer = await upload(engine, new_name(), png((0, 0, 0, 77)), path="/upload/mask", original_ref=reference)
    assert answer.status == 200
    assert pixel((await view(engine, answer.json["name"], type="input")).content)[2] == (10, 20, 30, 77)


async def test_an_uploaded_image_is_loaded_and_loaded_again_when_its_bytes_change(engine: Engine) -> None:
    name = await uploaded(engine, new_name(), png((1, 2, 3)))
    graph = {"1": node("LoadImage", image=name), "2": node("PreviewImage", images=["1", 0])}
    first, _ = await engine.run(graph)
    again, events = await engine.run(graph)
    assert [e.data["nodes"] for e in events if e.type == "execution_cached"] == [["1", "2"]]
    await uploaded(engine, name, png((9, 9, 9)), overwrite="true")
    changed, _ = await engine.run(graph)
    seen = []
    for entry in (first, again, changed):
        (shown,) = entry["outputs"]["2"]["images"]
        assert shown["type"] == "temp"
        seen.append(pixel((await view(engine, shown["filename"], type="temp")).content)[2])
    assert seen == [(1, 2, 3), (1, 2, 3), (9, 9, 9)]
