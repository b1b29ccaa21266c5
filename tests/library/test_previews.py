"""Previews of every kind of picture, good and bad."""

import os
import struct
import zlib
from io import BytesIO

import pytest
from PIL import Image

from comfy_mcp.domain.errors import BridgeError, ErrorCode, InvalidInput, LimitExceeded
from comfy_mcp.library import Preview, make_preview


@pytest.fixture(autouse=True)
def _pillow_keeps_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preview sets Pillow's own, which is the whole process's."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def preview_of(
    data: bytes, *, max_px: int = 64, max_bytes: int = 50_000, max_pixels: int = 4_000_000
) -> Preview:
    return make_preview(data, max_px=max_px, max_bytes=max_bytes, max_pixels=max_pixels)


def opened(preview: Preview) -> Image.Image:
    image = Image.open(BytesIO(preview.data))
    assert image.get_format_mimetype() == preview.media_type
    assert image.size == (preview.width, preview.height)
    return image.convert("RGBA")


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("1", "PNG"),
        ("L", "PNG"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("RGB", "PNG"),
        ("RGB", "JPEG"),
        ("RGB", "WEBP"),
        ("RGB", "BMP"),
        ("RGB", "TIFF"),
        ("RGB", "AVIF"),
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "JPEG"),
        ("I;16", "PNG"),
        ("F", "TIFF"),
    ],
)
def test_a_picture_without_alpha_becomes_a_jpeg(mode: str, name: str) -> None:
    white = {
        "CMYK": (0, 0, 0, 0),
        "YCbCr": (255, 128, 128),
        "RGB": (255,) * 3,
        "I;16": 65535,
        "F": 1.0,
        "1": 1,
    }
    picture = Image.new(mode, (200, 100), white.get(mode, 255))  # type: ignore[arg-type]
    if mode == "P":
        picture.putpalette([255] * 768)
    preview = preview_of(encoded(picture, name))
    assert (preview.media_type, preview.width, preview.height) == ("image/jpeg", 64, 32)
    pixel = opened(preview).getpixel((32, 16))
    assert isinstance(pixel, tuple)
    assert min(pixel) >= 250


def test_sixteen_bit_grey_keeps_its_tones() -> None:
    preview = preview_of(encoded(Image.new("I;16", (64, 64), 32768), "PNG"))
    pixel = opened(preview).getpixel((5, 5))
    assert isinstance(pixel, tuple)
    assert abs(pixel[0] - 127) <= 2


@pytest.mark.parametrize("name", ["PNG", "WEBP", "GIF"])
def test_transparency_is_kept(name: str) -> None:
    picture = Image.new("RGBA", (100, 100), (255, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 50, 100))
    preview = preview_of(encoded(picture, name))
    assert preview.media_type == "image/png"
    left, right = opened(preview).getpixel((5, 30)), opened(preview).getpixel((60, 30))
    assert isinstance(left, tuple)
    assert left[3] == 0
    assert isinstance(right, tuple)
    assert right[0] > 250
    assert right[3] == 255


def test_an_alpha_channel_that_hides_nothing_is_dropped() -> None:
    assert preview_of(encoded(Image.new("RGBA", (50, 50), "blue"), "PNG")).media_type == "image/jpeg"


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_shown(name: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    data = encoded(frames[0], name, save_all=True, append_images=frames[1:], duration=50)
    pixel = opened(preview_of(data)).getpixel((16, 16))
    assert isinstance(pixel, tuple)
    assert pixel[0] > 240
    assert max(pixel[1:3]) < 16


def test_a_small_picture_is_not_enlarged() -> None:
    preview = preview_of(encoded(Image.new("RGB", (10, 7)), "PNG"), max_px=768)
    assert (preview.width, preview.height) == (10, 7)


def test_a_photo_taken_sideways_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn right
    preview = preview_of(encoded(Image.new("RGB", (60, 30)), "JPEG", exif=exif))
    assert (preview.width, preview.height) == (30, 60)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_noise_shrinks_until_it_fits(mode: str) -> None:
    noise = Image.frombytes(mode, (700, 700), os.urandom(700 * 700 * len(mode)))
    data = encoded(noise, "PNG")
    preview = preview_of(data, max_px=700, max_bytes=20_000)
    assert len(preview.data) <= 20_000
    assert 16 < preview.width < 700
    opened(preview)


def test_what_fits_nowhere_is_refused() -> None:
    with pytest.raises(LimitExceeded) as caught:
        preview_of(encoded(Image.new("RGB", (700, 700)), "PNG"), max_bytes=10)
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_metadata_does_not_travel_with_the_preview() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("prompt", "the whole workflow")
    preview = preview_of(encoded(Image.new("RGBA", (40, 40)), "PNG", pnginfo=info))
    assert preview.media_type == "image/png"
    assert b"workflow" not in preview.data


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_half_an_image_is_unreadable(name: str) -> None:
    noise = Image.frombytes("RGB", (80, 80), os.urandom(80 * 80 * 3))
    data = encoded(noise, name)
    with pytest.raises(InvalidInput) as caught:
        preview_of(data[: len(data) // 2])
    assert caught.value.code is ErrorCode.OUTPUT_UNREADABLE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"<html>502</html>",
        bytes(5000),
        b"%!PS-Adobe EPSF-3.0",
        b"GIF89a",
    ],
)
def test_what_is_no_image_is_unreadable(data: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        preview_of(data)
    assert caught.value.code is ErrorCode.OUTPUT_UNREADABLE
    assert "not a complete image" in caught.value.message


def bomb(side: int) -> bytes:
    """A PNG of side² black pixels in a few kilobytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("factor", [1.01, 1.5, 3])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(factor: float) -> None:
    """Pillow itself only warns up to twice the limit."""
    side = 2000
    data = bomb(side)
    with pytest.raises(BridgeError) as caught:
        preview_of(data, max_pixels=int(side * side / factor))
    assert isinstance(caught.value, LimitExceeded)
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert caught.value.next_step == "Fetch the file itself."


def test_an_image_of_exactly_the_limit_is_decoded() -> None:
    assert preview_of(bomb(100), max_pixels=10_000).width == 64
