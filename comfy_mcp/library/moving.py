"""One picture of what moves or sounds: frames side by side, or the shape of a sound, with its length.

Pillow reads animations, this module reads WAV. Every other video and sound needs PyAV, which is optional
(`comfy-mcp-bridge[media]`). Decoding blocks and belongs on a thread; its work is bounded.
"""

import math
import struct
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from comfy_mcp.library.previews import FORMATS

if TYPE_CHECKING:
    from PIL.Image import Image

FRAMES = 9
"""Frames in a sheet: three by three are still large enough to compare."""

DECODED_PIXELS = 1_000_000_000
"""Of one animation or video; what comes later is not shown."""

DECODE_S = 15.0
"""For one animation, video or sound, on a machine that has other work."""

MAX_FRAMES = 10_000
"""Of one animation: a frame of one pixel costs as much as one of a thousand."""

FRAME_PIXELS = 40_000_000
SOUND_HZ = 8_000
SOUND_S = 1_800
WAVE_BYTES = 32 * 2**20
"""Of the samples of a WAV file; what comes later is not shown."""
COLUMNS = 640
TILE_PX = 256

CONTAINERS = {
    "format_whitelist": "mov,mp4,matroska,webm,avi,flv,asf,mpeg,mpegts,mp3,aac,flac,ogg,wav,aiff,gif,apng",
    "protocol_whitelist": "none",
}
"""What FFmpeg opens: files that hold what they show. A playlist, or a list of files, would lead it to other
files of this machine, to other machines, or to a port on which it waits."""

_SIGNED = bytes(each ^ 0x80 for each in range(256))
_WAVE_PCM, _WAVE_FLOAT, _WAVE_EXTENSIBLE = 1, 3, 0xFFFE


class NotShown(Exception):
    """Why there is no picture, as a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """`tiles` are frames with their times as labels. `peaks`: (lowest, highest) of each column, -1 to 1."""

    facts: str
    tiles: Sequence[tuple[str, "Image"]] = field(default=(), repr=False)
    peaks: Sequence[tuple[float, float]] = field(default=(), repr=False)


def animation(data: bytes) -> Moving | None:
    """Of a GIF, an animated PNG or WebP; None for a single picture. Raises what Pillow raises.

    Frames are not counted beforehand: a small file may have millions, and the count alone takes minutes.
    """
    from PIL import Image

    until = time.monotonic() + DECODE_S
    with Image.open(BytesIO(data), formats=FORMATS) as opened:
        if not _goes_to(opened, 1):
            return None
        size = opened.size
        most = max(2, min(MAX_FRAMES, DECODED_PIXELS // max(1, opened.width * opened.height)))
        kept, at_ms, count = _Spread(), 0.0, 0
        while count < most and _goes_to(opened, count):
            opened.load()
            if kept.takes(count):
                tile = opened.convert("RGBA")
                tile.thumbnail((TILE_PX, TILE_PX))
                kept.tiles.append((f"{at_ms / 1000:.1f} s", tile))
            at_ms += float(opened.info.get("duration") or 100)
            count += 1
            if time.monotonic() > until:
                break
        more = "" if not _goes_to(opened, count) else "more than "
    facts = f"{more}{at_ms / 1000:.1f} s, {more}{count} frames, {size[0]}x{size[1]}"
    return Moving(facts=facts, tiles=kept.chosen())


def _goes_to(opened: "Image", frame: int) -> bool:
    """Whether there is such a frame; then it is the one that is read."""
    try:
        opened.seek(frame)
    except EOFError:
        return False
    return True


@dataclass(slots=True)
class _Spread:
    """Frames at equal distances, of an animation whose length shows at its end."""

    tiles: "list[tuple[str, Image]]" = field(default_factory=list)
    step: int = 1

    def takes(self, number: int) -> bool:
        if len(self.tiles) == 4 * FRAMES:
            self.tiles, self.step = self.tiles[::2], 2 * self.step
        return number % self.step == 0

    def chosen(self) -> "list[tuple[str, Image]]":
        last = len(self.tiles) - 1
        return [self.tiles[each] for each in sorted({round(n * last / (FRAMES - 1)) for n in range(FRAMES)})]


def wave(data: bytes) -> Moving | None:
    """Of a WAV file in PCM or floating point; None for another coding or a damaged file."""
    found = dict(_riff_chunks(data))
    try:
        coding, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", found[b"fmt "])
        if coding == _WAVE_EXTENSIBLE:
            (coding,) = struct.unpack_from("<H", found[b"fmt "], 24)
        samples = _samples(found[b"data"][:WAVE_BYTES], coding, bits)
    except (KeyError, struct.error):
        return None
    if not samples or not channels or not rate:
        return None
    scale = 1.0 if samples.typecode == "f" else 128.0 if samples.typecode == "b" else 32768.0
    seconds = len(found[b"data"]) * 8 / bits / channels / rate
    cut = ", the beginning" if len(found[b"data"]) > WAVE_BYTES else ""
    facts = f"{seconds:.1f} s, {rate} Hz, {_channels(channels)}{cut}"
    return Moving(facts=facts, peaks=peaks_of(samples, scale))


def decoded(data: bytes) -> Moving:
    """Of a video or a sound, by PyAV. Raises NotShown."""
    try:
        import av
    except ImportError:
        raise NotShown(
            "To show videos and sounds, install the optional package: pip install 'comfy-mcp-bridge[media]'."
        ) from None
    until = time.monotonic() + DECODE_S
    try:
        with av.open(BytesIO(data), mode="r", options=dict(CONTAINERS)) as container:
            length = (container.duration or 0) / 1_000_000
            if container.streams.video:
                return _video(container, length, until)
            if container.streams.audio:
                return _sound(container, length, until)
    except (av.FFmpegError, ValueError, OSError, AttributeError) as error:  # the last: an unknown coding
        raise NotShown(f"The file can't be decoded ({type(error).__name__}).") from None
    raise NotShown("The file has neither pictures nor sound.")


def peaks_of(samples: "array[Any]", scale: float) -> list[tuple[float, float]]:
    """The lowest and the highest sample of each column."""
    step = max(1, math.ceil(len(samples) / COLUMNS))
    parts = (samples[at : at + step] for at in range(0, len(samples), step))
    return [(max(-1.0, min(part) / scale), min(1.0, max(part) / scale)) for part in map(_finite, parts)]


def _finite(part: "array[Any]") -> Sequence[float]:
    """Without what is no number: only floats have such values."""
    return part if part.typecode != "f" else list(filter(math.isfinite, part)) or [0.0]


def wave_picture(peaks: Sequence[tuple[float, float]]) -> "Image":
    """The shape of a sound, time to the right."""
    from PIL import Image, ImageDraw

    height, middle = 200, 100
    image = Image.new("RGB", (COLUMNS, height), (250, 250, 250))
    draw = ImageDraw.Draw(image)
    draw.line((0, middle, COLUMNS, middle), fill=(200, 200, 200))
    for number, (low, high) in enumerate(peaks):
        left = number * COLUMNS // len(peaks)
        right = max(left, (number + 1) * COLUMNS // len(peaks) - 1)
        draw.rectangle((left, middle - high * 95, right, middle - low * 95), fill=(40, 90, 160))
    return image


def sheet(tiles: Sequence[tuple[str, "Image"]], *, max_px: int) -> "Image":
    """The tiles in a grid, each with its label."""
    from PIL import Image, ImageDraw

    columns = math.ceil(math.sqrt(len(tiles)))
    side = min(TILE_PX, max(16, max_px // columns))
    rows = math.ceil(len(tiles) / columns)
    image = Image.new("RGB", (columns * side, rows * side), (240, 240, 240))
    draw = ImageDraw.Draw(image)
    for number, (label, tile) in enumerate(tiles):
        left, top = number % columns * side, number // columns * side
        small = tile.copy()
        small.thumbnail((side - 4, side - 4))
        place = left + (side - small.width) // 2, top + (side - small.height) // 2
        image.paste(small, place, small if small.mode == "RGBA" else None)
        box = draw.textbbox((left + 6, top + 4), label)
        draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill=(0, 0, 0))
        draw.text((left + 6, top + 4), label, fill=(255, 255, 255))
    return image


def _video(container: Any, length: float, until: float) -> Moving:
    stream = container.streams.video[0]
    if stream.width * stream.height > FRAME_PIXELS:
        raise NotShown(f"Its frames of {stream.width}x{stream.height} are too large to be shown.")
    rate = float(stream.average_rate or 0)
    tiles = []
    for step in range(FRAMES):
        wanted = length * step / FRAMES
        frame = _frame_at(container, stream, wanted, until)
        if frame is None:
            break
        image = frame.to_image()
        image.thumbnail((TILE_PX, TILE_PX))
        tiles.append((f"{wanted:.1f} s", image))
        if not length:
            break
    if not tiles:
        raise NotShown("No frame of it can be decoded.")
    sound = "with sound" if container.streams.audio else "no sound"
    size = f"{stream.width}x{stream.height}"
    facts = [f"{length:.1f} s" if length else "", f"{rate:.4g} frames a second" if rate else "", size, sound]
    return Moving(facts=", ".join(filter(None, facts)), tiles=tiles)


def _frame_at(container: Any, stream: Any, wanted: float, until: float) -> Any:
    """The frame that is shown at `wanted` seconds; the last one that was decoded when the time is up."""
    container.seek(int(wanted * 1_000_000))
    budget = DECODED_PIXELS // FRAMES // max(1, stream.width * stream.height)
    last = None
    for number, frame in enumerate(container.decode(stream)):
        last = frame
        if frame.time is None or frame.time + 1e-3 >= wanted or number >= budget or time.monotonic() > until:
            break
    return last


def _sound(container: Any, length: float, until: float) -> Moving:
    import av

    stream = container.streams.audio[0]
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SOUND_HZ)
    samples = array("h")
    for frame in container.decode(stream):
        for part in resampler.resample(frame):
            samples.frombytes(bytes(part.planes[0])[: part.samples * 2])
        if len(samples) > SOUND_S * SOUND_HZ or time.monotonic() > until:
            break
    if not samples:
        raise NotShown("No sound of it can be decoded.")
    seconds = length or len(samples) / SOUND_HZ
    facts = f"{seconds:.1f} s, {stream.rate} Hz, {_channels(stream.channels)}"
    return Moving(facts=facts, peaks=peaks_of(samples, 32768.0))


def _channels(count: int) -> str:
    return {1: "mono", 2: "stereo"}.get(count, f"{count} channels")


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    for _ in range(1000):
        if at + 8 > len(data):
            return
        name, size = struct.unpack_from("<4sI", data, at)
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _samples(data: bytes, coding: int, bits: int) -> "array[Any]":
    """Numbers of 8 or 16 bits, or floats: the low bytes of longer ones are not seen. Raises KeyError."""
    width = bits // 8
    data = data[: len(data) // max(1, width) * max(1, width)]
    if (coding, bits) == (_WAVE_FLOAT, 32):
        floats = array("f", data)
        if sys.byteorder == "big":
            floats.byteswap()
        return floats
    if coding != _WAVE_PCM or bits not in {8, 16, 24, 32}:
        raise KeyError(bits)
    if width == 1:
        return array("b", data.translate(_SIGNED))
    short = bytearray(len(data) // width * 2)
    short[0::2], short[1::2] = data[width - 2 :: width], data[width - 1 :: width]
    samples = array("h", bytes(short))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples
