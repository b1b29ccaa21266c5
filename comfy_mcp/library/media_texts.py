"""The texts that ComfyUI and its nodes write into the files they make: `prompt`, `workflow`, `comment`.

A file is walked by its headers; pictures and sound are passed over. Every walk is bounded: by the number of
parts, and by the length of a text.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import BinaryIO

from comfy_mcp.domain.media_types import HEAD_BYTES, UNKNOWN, media_type_of
from comfy_mcp.library.sound_texts import flac, mp3, ogg
from comfy_mcp.library.tagged_texts import Damaged, Texts, TextTooLong, exactly, wanted

MAX_LEVELS = 8
"""Most levels of boxes in boxes."""

_KEYWORD = 80
"""Longest keyword of a PNG's text, with the zero behind it."""
_EXIF = b"Exif\0\0"
_TIFF_ASCII, _TIFF_UNDEFINED, _EXIF_POINTER, _USER_COMMENT = 2, 7, 0x8769, 0x9286


def is_media(head: bytes) -> bool:
    """The first bytes are those of a picture, a video, sound or a 3D model."""
    return media_type_of("", head) != UNKNOWN


def texts_in(stream: BinaryIO, most: int) -> Mapping[str, bytes]:
    """`prompt`, `workflow`, `comment`, and the `settings` of a program without nodes, if they are there.

    A file that is cut or has lengths that lie gives what came before. Raises Damaged, TextTooLong.
    """
    stream.seek(0)
    media_type = media_type_of("", stream.read(HEAD_BYTES))
    stream.seek(0)
    texts = Texts(most)
    reader = _READERS.get(media_type)
    if reader is not None:
        with contextlib.suppress(struct.error, OverflowError, ValueError):  # cut, or its lengths lie
            reader(stream, texts)
    return texts.found


# --------------------------------------------------------------------------------- pictures


def _png(stream: BinaryIO, texts: Texts) -> None:
    """Text chunks (PNG specification, 11.3.3), and `comf`, ComfyUI's own in animations."""
    stream.seek(8)
    while texts.step():
        size, kind = struct.unpack(">I4s", stream.read(8))
        if kind in _PNG_TEXTS:
            after = stream.tell() + size + 4
            name, zero, rest = exactly(stream, min(size, _KEYWORD)).partition(b"\0")
            if zero and wanted(name.decode("latin-1")):
                rest += texts.read(stream, size - len(name) - len(rest) - 1)
                texts.take(name.decode("latin-1"), _PNG_TEXTS[kind](rest, texts.most))
            stream.seek(after)
        elif kind == b"IEND":
            return
        else:
            stream.seek(size + 4, os.SEEK_CUR)


def _plain(rest: bytes, most: int) -> bytes:
    """Latin-1 by the specification; many programs write UTF-8."""
    try:
        rest.decode()
    except UnicodeDecodeError:
        return rest.decode("latin-1").encode()
    return rest


def _international(rest: bytes, most: int) -> bytes:
    packed, rest = rest[:1] == b"\1", rest[2:]
    text = rest.partition(b"\0")[2].partition(b"\0")[2]
    return _inflated(text, most) if packed else text


def _packed(rest: bytes, most: int) -> bytes:
    return _plain(_inflated(rest[1:], most), most)


_PNG_TEXTS: Mapping[bytes, Callable[[bytes, int], bytes]] = MappingProxyType(
    {b"tEXt": _plain, b"zTXt": _packed, b"iTXt": _international, b"comf": _plain}
)


def _inflated(packed: bytes, most: int) -> bytes:
    inflating = zlib.decompressobj()
    try:
        text = inflating.decompress(packed, most + 1)
    except zlib.error:
        raise Damaged from None
    if len(text) > most:
        raise TextTooLong
    return text


def _webp(stream: BinaryIO, texts: Texts) -> None:
    stream.seek(12)
    while texts.step():
        kind, size = struct.unpack("<4sI", stream.read(8))
        if kind == b"EXIF":
            _exif(texts.read(stream, size), texts)
            return
        stream.seek(size + size % 2, os.SEEK_CUR)


def _jpeg(stream: BinaryIO, texts: Texts) -> None:
    """APP1 with EXIF, and comments, before the picture begins."""
    stream.seek(2)
    while texts.step():
        mark, kind, size = struct.unpack(">BBH", stream.read(4))
        if mark != 0xFF or kind == 0xDA or size < 2:
            return
        segment = exactly(stream, size - 2)
        if kind == 0xE1 and segment.startswith(_EXIF):
            _exif(segment, texts)
        elif kind == 0xFE:
            texts.take("comment", segment)


def _exif(block: bytes, texts: Texts) -> None:
    """Texts of the first folder of a TIFF, and of its EXIF folder."""
    block = block.removeprefix(_EXIF)
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return
    folders = [struct.unpack_from(f"{order}I", block, 4)[0]]
    for place in folders:
        (count,) = struct.unpack_from(f"{order}H", block, place)
        for at in range(place + 2, place + 2 + count * 12, 12):
            if not texts.step():
                return
            tag, kind, size, start = struct.unpack_from(f"{order}HHII", block, at)
            if tag == _EXIF_POINTER and len(folders) == 1:
                folders.append(start)
            elif kind in {_TIFF_ASCII, _TIFF_UNDEFINED} and size > 4:
                text = block[start : start + size].rstrip(b"\0")
                texts.take("usercomment" if tag == _USER_COMMENT else "", _user_comment(text, order))


def _user_comment(text: bytes, order: str) -> bytes:
    """Without the eight bytes that say its encoding (EXIF 2.3, UserComment)."""
    if text.startswith(b"UNICODE\0"):
        wide = text[8:]
        return (
            wide[: len(wide) // 2 * 2].decode(f"utf-16-{'le' if order == '<' else 'be'}", "replace").encode()
        )
    return text.removeprefix(b"ASCII\0\0\0")


# --------------------------------------------------------------------------------- video


def _mp4(stream: BinaryIO, texts: Texts) -> None:
    _boxes(stream, stream.seek(0, os.SEEK_END), texts, start=0, level=0)


def _boxes(stream: BinaryIO, end: int, texts: Texts, *, start: int, level: int) -> None:
    """Boxes of an ISO base media file; `keys` name those of `ilst` by their numbers."""
    names: list[str] = []
    for kind, first, last in _walk(stream, start, end, texts):
        if kind == b"meta" and level < MAX_LEVELS:
            stream.seek(first)
            full = 0 if stream.read(8)[4:] == b"hdlr" else 4  # QuickTime's has no version
            _boxes(stream, last, texts, start=first + full, level=level + 1)
        elif kind in {b"moov", b"udta"} and level < MAX_LEVELS:
            _boxes(stream, last, texts, start=first, level=level + 1)
        elif kind == b"keys":
            names = list(_keys(stream, first, last, texts))
        elif kind == b"ilst":
            for item, begin, stop in _walk(stream, first, last, texts):
                number = int.from_bytes(item, "big")
                name = names[number - 1] if 0 < number <= len(names) else item.decode("latin-1")
                for inner, place, finish in _walk(stream, begin, stop, texts):
                    if inner == b"data" and wanted(name):
                        stream.seek(place + 8)
                        texts.take(name, texts.read(stream, finish - place - 8))


def _walk(stream: BinaryIO, at: int, end: int, texts: Texts) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each box between two places, and where its content begins and ends."""
    while at + 8 <= end and texts.step():
        stream.seek(at)
        size, kind = struct.unpack(">I4s", stream.read(8))
        first = at + 8
        if size == 1:
            (size,) = struct.unpack(">Q", stream.read(8))
            first += 8
        last = end if size == 0 else at + size
        if last < first or last > end:
            return
        yield kind, first, last
        at = last


def _keys(stream: BinaryIO, first: int, last: int, texts: Texts) -> Iterator[str]:
    at = first + 8
    while at + 8 <= last and texts.step():
        stream.seek(at)
        size, _ = struct.unpack(">I4s", stream.read(8))
        if not 8 <= size <= last - at:
            return
        yield texts.read(stream, size - 8).decode("utf-8", "replace")
        at += size


_SEGMENT, _TAGS, _TAG, _SIMPLE_TAG = 0x18538067, 0x1254C367, 0x7373, 0x67C8
_TAG_NAME, _TAG_STRING = 0x45A3, 0x4487


def _matroska(stream: BinaryIO, texts: Texts) -> None:
    _elements(stream, 0, stream.seek(0, os.SEEK_END), texts, level=0)


def _elements(stream: BinaryIO, at: int, end: int, texts: Texts, *, level: int) -> None:
    name = ""
    while at < end and level < MAX_LEVELS and texts.step():
        stream.seek(at)
        kind, _ = _number(stream, marked=True)
        size, unknown = _number(stream, marked=False)
        first = stream.tell()
        last = end if unknown else first + size
        if kind in {_SEGMENT, _TAGS, _TAG, _SIMPLE_TAG}:
            _elements(stream, first, min(last, end), texts, level=level + 1)
        elif kind == _TAG_NAME:
            name = texts.read(stream, last - first).decode("utf-8", "replace")
        elif kind == _TAG_STRING and wanted(name):
            texts.take(name, texts.read(stream, last - first).rstrip(b"\0"))
        at = last


def _number(stream: BinaryIO, *, marked: bool) -> tuple[int, bool]:
    """A number of EBML, with its marker or without; and whether it says "unknown". Raises ValueError."""
    head = exactly(stream, 1)
    length = 9 - head[0].bit_length()
    if length > 8:
        raise ValueError("no EBML")
    raw = int.from_bytes(head + exactly(stream, length - 1), "big")
    value = raw if marked else raw & ((1 << 7 * length) - 1)
    return value, not marked and value == (1 << 7 * length) - 1


_READERS: Mapping[str, Callable[[BinaryIO, Texts], None]] = MappingProxyType(
    {
        "image/png": _png,
        "image/webp": _webp,
        "image/jpeg": _jpeg,
        "video/mp4": _mp4,
        "video/quicktime": _mp4,
        "audio/mp4": _mp4,
        "video/webm": _matroska,
        "video/x-matroska": _matroska,
        "audio/flac": flac,
        "audio/ogg": ogg,
        "audio/mpeg": mp3,
    }
)
