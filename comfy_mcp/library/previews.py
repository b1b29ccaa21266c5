"""Small pictures of outputs, within what MCP clients take. Decoding belongs on a thread."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from comfy_mcp.domain.errors import ErrorCode, InvalidInput, LimitExceeded

if TYPE_CHECKING:  # Pillow costs 10 MB and 50 ms: it comes with the first preview
    from PIL.Image import Image

# Named, because Pillow would otherwise also try EPS (which starts Ghostscript) and forty others.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SCANNED_PIXELS = 2_000_000_000
"""Pixels of a JPEG times its scans: one of 300 KB may have thousands, and each decodes the whole picture."""
_SMALLEST_PX = 16
_SCAN = b"\xff\xda"
_PLAIN = frozenset({"L", "RGB", "RGBA"})
_QUALITIES = (85, 70, 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A picture that fits. `width` and `height` are in pixels."""

    data: bytes = field(repr=False)
    media_type: str
    width: int
    height: int


def make_preview(
    data: bytes, *, max_px: int, max_bytes: int, max_pixels: int, box: tuple[int, int] | None = None
) -> Preview:
    """The preview of an image file's bytes: JPEG, or PNG or WebP where there is transparency. Blocks.

    Of an animation it is the first frame. `max_px` bounds the longest side, `box` width and height. Raises
    InvalidInput (output_unreadable) for what is no whole image, LimitExceeded (too_large) for one of
    more than `max_pixels` pixels, and when nothing fits into `max_bytes`.
    """
    from PIL import Image

    with readable(max_pixels), Image.open(BytesIO(data), formats=FORMATS) as opened:
        if opened.width * opened.height > max_pixels:
            raise _too_many_pixels(max_pixels)
        if opened.format == "JPEG" and opened.width * opened.height * data.count(_SCAN) > SCANNED_PIXELS:
            raise InvalidInput(
                "The picture has more scans than can be decoded for a preview.",
                next_step="Fetch the file itself.",
                code=ErrorCode.OUTPUT_UNREADABLE,
            )
        image = _upright_rgb(opened, max_px)
    if box is not None:
        image.thumbnail(box)
    return encoded(image, max_px=max_px, max_bytes=max_bytes)


def encoded(image: "Image", *, max_px: int, max_bytes: int) -> Preview:
    """The preview of a decoded picture. Raises LimitExceeded when nothing fits into `max_bytes`."""
    fitted, data, media_type = _fit(image, max_px, max_bytes)
    return Preview(
        data=data,
        media_type=media_type,
        width=fitted.width,
        height=fitted.height,
    )


@contextmanager
def readable(max_pixels: int) -> Iterator[None]:
    """What Pillow raises for a file that it can't read, as our errors."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(max_pixels) from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"The file is not a complete image ({type(error).__name__}).",
            next_step="Fetch the file itself, or run the workflow again.",
            code=ErrorCode.OUTPUT_UNREADABLE,
        ) from None
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _upright_rgb(opened: "Image", max_px: int) -> "Image":
    """The first frame in mode RGB or, where something is transparent, RGBA."""
    from PIL import ImageOps

    if opened.format == "JPEG":
        opened.draft("RGB", (max_px, max_px))  # decodes at a fraction of the size
    if opened.mode in _PLAIN:
        opened.thumbnail((max_px, max_px))  # before any copy of it is made
    opened.load()
    image = ImageOps.exif_transpose(opened)
    if image.mode.startswith(("I", "F")):
        image = _to_8_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    with_alpha = image.convert("RGBA")
    lowest: Any = with_alpha.getchannel("A").getextrema()[0]
    return with_alpha if lowest < 255 else with_alpha.convert("RGB")


def _to_8_bits(image: "Image") -> "Image":
    """16-bit and floating grey: `convert` alone would clip nearly everything to white."""
    extrema: Any = image.getextrema()
    base = min(0.0, extrema[0])
    top = 65535.0 if image.mode.startswith("I") else max(1.0, extrema[1])
    scale = 255 / (top - base)
    return image.convert("F").point(lambda value: value * scale - base * scale).convert("L")


def _fit(image: "Image", max_px: int, max_bytes: int) -> "tuple[Image, bytes, str]":
    side = min(max_px, max(image.size))
    while True:
        fitted = image.copy()
        fitted.thumbnail((side, side))
        for name, options in _encodings(has_alpha=fitted.mode == "RGBA"):
            stream = BytesIO()
            fitted.save(stream, name, **options)
            if stream.tell() <= max_bytes:
                return fitted, stream.getvalue(), f"image/{name.lower()}"
        if side <= _SMALLEST_PX:
            raise LimitExceeded(
                f"No preview of this image fits into {max_bytes} bytes.",
                next_step="Fetch the file itself.",
                code=ErrorCode.TOO_LARGE,
            )
        side = max(_SMALLEST_PX, side * 3 // 4)


def _encodings(*, has_alpha: bool) -> list[tuple[str, dict[str, Any]]]:
    if has_alpha:
        return [("PNG", {"compress_level": 6}), *(("WEBP", {"quality": quality}) for quality in _QUALITIES)]
    return [("JPEG", {"quality": quality, "optimize": True}) for quality in _QUALITIES]


def _too_many_pixels(limit: int) -> LimitExceeded:
    return LimitExceeded(
        f"The image has more than {limit} pixels, the limit for previews.",
        next_step="Fetch the file itself.",
        code=ErrorCode.TOO_LARGE,
        details={"max_pixels": limit},
    )
