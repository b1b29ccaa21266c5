"""Outputs as one picture that a model can look at: a preview, a sheet of frames, the shape of a sound."""

import asyncio
import math
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from comfy_mcp.domain.catalog import Output, OutputKind
from comfy_mcp.domain.errors import BridgeError, EngineFault, StoreFault
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.domain.media_types import media_type_of
from comfy_mcp.library import moving
from comfy_mcp.library.moving import Moving, NotShown
from comfy_mcp.library.outputs import IMAGE_PIXELS, PREVIEW_BYTES, PREVIEW_PX, OutputFiles
from comfy_mcp.library.previews import Preview, encoded, make_preview, readable

if TYPE_CHECKING:
    from PIL.Image import Image

SHEET = 16
"""Outputs on one sheet: four by four."""

Shown = tuple[Preview | None, str]
"""The picture, and what it says in words; None: why there is none."""


async def show(files: OutputFiles, output: Output, *, client: ClientId, max_px: int | None = None) -> Shown:
    """One output. Raises what reading it raises, and InvalidInput (output_unreadable) for a broken image."""
    side = min(max_px or PREVIEW_PX, PREVIEW_PX)
    kind = output.file.kind
    if kind not in {OutputKind.IMAGE, OutputKind.VIDEO, OutputKind.AUDIO} or output.file.is_written:
        return None, f"There is no picture of this type ({kind}); fetch the file itself."
    async with files.to_decode(output, client) as data:
        return await asyncio.to_thread(_shown, output, data, side)


async def show_several(
    files: OutputFiles, outputs: Sequence[Output], *, client: ClientId, max_px: int | None = None
) -> Shown:
    """One sheet of the first SHEET outputs, with their numbers; what can't be shown is an empty tile, and
    there is no sheet of nothing but those.

    Raises EngineFault and StoreFault.
    """
    side = min(max_px or PREVIEW_PX, PREVIEW_PX)
    some = outputs[:SHEET]
    tile_px = side // math.ceil(math.sqrt(len(some)))
    tiles: list[tuple[str, Image]] = []
    notes = [f"The sheet shows the first {SHEET} of {len(outputs)}."] if len(outputs) > SHEET else []
    some_shown = False
    for number, output in enumerate(some, start=1):
        try:
            preview, note = await show(files, output, client=client, max_px=tile_px)
        except (EngineFault, StoreFault):
            raise
        except BridgeError as error:
            preview, note = None, error.sentence
        if preview is None or output.file.kind is not OutputKind.IMAGE:
            notes.append(f"{number}: {note}")
        some_shown |= preview is not None
        tiles.append((str(number), await asyncio.to_thread(_tile, preview)))
    if not some_shown:
        return None, " ".join(notes)
    sheet = await asyncio.to_thread(_sheet_of, tiles, side)
    return sheet, " ".join(notes)


def _shown(output: Output, data: bytes, side: int) -> Shown:
    if output.file.kind is OutputKind.IMAGE:
        with readable(IMAGE_PIXELS):
            found = moving.animation(data)
        if found is not None:
            return _sheet_of(found.tiles, side), f"{found.facts}; the frames in order."
        return make_preview(data, max_px=side, max_bytes=PREVIEW_BYTES, max_pixels=IMAGE_PIXELS), ""
    try:
        found = _of_media(output, data)
    except NotShown as why:
        return None, f"{output.file.kind.value.capitalize()} without a picture. {why}"
    if found.tiles:
        return _sheet_of(found.tiles, side), f"{found.facts}; the frames in order."
    picture = moving.wave_picture(found.peaks)
    return encoded(picture, max_px=side, max_bytes=PREVIEW_BYTES), f"{found.facts}; the shape of the sound."


def _of_media(output: Output, data: bytes) -> Moving:
    if media_type_of(output.file.filename, data[:64]) == "audio/wav" and (found := moving.wave(data)):
        return found
    return moving.decoded(data)


def _tile(preview: Preview | None) -> "Image":
    from PIL import Image

    if preview is None:
        return Image.new("RGB", (moving.TILE_PX, moving.TILE_PX), (210, 210, 210))
    with Image.open(BytesIO(preview.data)) as opened:
        opened.load()
        return opened.copy()


def _sheet_of(tiles: "Sequence[tuple[str, Image]]", side: int) -> Preview:
    return encoded(moving.sheet(tiles, max_px=side), max_px=side, max_bytes=PREVIEW_BYTES)
