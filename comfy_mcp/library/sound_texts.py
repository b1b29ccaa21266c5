"""The texts in files of sound: FLAC, Ogg, MP3."""

import os
import struct
from typing import BinaryIO

from comfy_mcp.library.tagged_texts import Texts, TextTooLong, exactly


def flac(stream: BinaryIO, texts: Texts) -> None:
    stream.seek(4)
    last = False
    while not last and texts.step():
        (head,) = struct.unpack(">I", stream.read(4))
        last, kind, size = bool(head >> 31), head >> 24 & 0x7F, head & 0xFFFFFF
        if kind == 4:
            _vorbis(exactly(stream, size), texts)
            return
        stream.seek(size, os.SEEK_CUR)


def _vorbis(block: bytes, texts: Texts) -> None:
    """A Vorbis comment: `NAME=text`, each with its length before it."""
    at = 4 + int.from_bytes(block[:4], "little")
    (count,) = struct.unpack_from("<I", block, at)
    at += 4
    for _ in range(count):
        if not texts.step():
            return
        (size,) = struct.unpack_from("<I", block, at)
        name, _, text = block[at + 4 : at + 4 + size].partition(b"=")
        if len(text) > texts.most:
            raise TextTooLong
        texts.take(name.decode("latin-1"), text)
        at += 4 + size


def ogg(stream: BinaryIO, texts: Texts) -> None:
    """The second packet of the first stream is its comment; it may run over many pages."""
    packets, whole = 0, bytearray()
    while texts.step():
        head = struct.unpack("<4sBBqIIIB", stream.read(27))
        sizes = stream.read(head[7])
        if head[0] != b"OggS":
            return
        for size in sizes:
            part = exactly(stream, size)
            whole += part if packets == 1 else b""
            if len(whole) > 2 * texts.most + 1024:
                raise TextTooLong
            if size < 255:
                packets += 1
            if packets == 2:
                for magic in (b"OpusTags", b"\3vorbis"):
                    if whole.startswith(magic):
                        _vorbis(bytes(whole[len(magic) :]), texts)
                return


def mp3(stream: BinaryIO, texts: Texts) -> None:
    """TXXX frames of ID3v2.3 and 2.4."""
    _, version, _, _, *digits = struct.unpack(">3sBBB4B", stream.read(10))
    end = 10 + _synchsafe(digits)
    while stream.tell() + 10 <= end and texts.step():
        kind, *digits = struct.unpack(">4s4B2x", stream.read(10))
        size = _synchsafe(digits) if version >= 4 else int.from_bytes(bytes(digits), "big")
        if kind == b"TXXX" and size <= 4 * texts.most:
            frame = exactly(stream, size)
            encoding = _ID3_ENCODINGS.get(frame[:1], "utf-8")
            name, _, text = frame[1:].decode(encoding, "replace").partition("\0")
            texts.take(name.lstrip("\ufeff"), text.strip("\0\ufeff").encode())
        elif kind == b"\0\0\0\0":
            return
        else:
            stream.seek(size, os.SEEK_CUR)


_ID3_ENCODINGS = {b"\0": "latin-1", b"\1": "utf-16", b"\2": "utf-16-be", b"\3": "utf-8"}


def _synchsafe(digits: list[int]) -> int:
    return digits[0] << 21 | digits[1] << 14 | digits[2] << 7 | digits[3]
