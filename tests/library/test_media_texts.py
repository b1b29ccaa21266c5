"""The texts in media files. The files of tests/data/media were written by ComfyUI 0.3.75; others are built
here by the formats' specifications.
"""

import contextlib
import io
import json
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from comfy_mcp.library.media_texts import is_media, texts_in
from comfy_mcp.library.tagged_texts import MAX_PARTS, Damaged, TextTooLong

MEDIA = Path(__file__).parents[1] / "data" / "media"
LIMIT = 100_000
GRAPH = {"1": {"class_type": "KSampler", "inputs": {"title": 'NaN "quoted" \\ é 💥', "-Infinity": 1}}}
TEXT = json.dumps(GRAPH).encode()
UTF8 = json.dumps(GRAPH, ensure_ascii=False).encode()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG's frame around these chunks (PNG specification, 5.3)."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", bytes(13)), *chunks, (b"IEND", b""))
    )


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def mp4(moov: bytes) -> bytes:
    return box(b"ftyp", b"isom" + bytes(4)) + box(b"mdat", bytes(999)) + box(b"moov", moov)


def tag(kind: bytes, text: bytes) -> bytes:
    return box(kind, box(b"data", struct.pack(">II", 1, 0) + text))


def vorbis(*comments: bytes) -> bytes:
    listed = b"".join(struct.pack("<I", len(each)) + each for each in comments)
    return struct.pack("<I", 4) + b"test" + struct.pack("<I", len(comments)) + listed


def ogg(*packets: bytes) -> bytes:
    """A page of at most 255 segments after the other (RFC 3533)."""
    sizes = []
    for packet in packets:
        sizes += [255] * (len(packet) // 255) + [len(packet) % 255]
    content, pages = b"".join(packets), b""
    for at in range(0, len(sizes), 255):
        here = sizes[at : at + 255]
        pages += struct.pack("<4sBBqIIIB", b"OggS", 0, 0, 0, 1, at, 0, len(here)) + bytes(here)
        pages += content[: sum(here)]
        content = content[sum(here) :]
    return pages


def element(kind: int, content: bytes) -> bytes:
    length = (kind.bit_length() + 7) // 8
    return kind.to_bytes(length, "big") + (1 << 56 | len(content)).to_bytes(8, "big") + content


def matroska(*tags: tuple[bytes, bytes]) -> bytes:
    simple = b"".join(element(0x67C8, element(0x45A3, name) + element(0x4487, text)) for name, text in tags)
    body = element(0x1F43B675, bytes(500)) + element(0x1254C367, element(0x7373, simple))
    unknown_size = b"\x01\xff\xff\xff\xff\xff\xff\xff"
    return element(0x1A45DFA3, b"\x42\x82\x84webm") + b"\x18\x53\x80\x67" + unknown_size + body


def id3(version: int, *frames: tuple[bytes, bytes]) -> bytes:
    def synchsafe(size: int) -> bytes:
        return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))

    body = b"".join(
        kind + (synchsafe(len(data)) if version == 4 else struct.pack(">I", len(data))) + b"\0\0" + data
        for kind, data in frames
    )
    return b"ID3" + bytes((version, 0, 0)) + synchsafe(len(body) + 10) + body + bytes(10) + b"\xff\xfb"


def pillow(kind: str, **texts: bytes) -> bytes:
    """As ComfyUI writes pictures: EXIF 0x0110 `prompt:…`, 0x010F `workflow:…`."""
    picture, exif, out = Image.new("RGB", (4, 4)), Image.Exif(), io.BytesIO()
    for number, (name, text) in zip((0x0110, 0x010F), texts.items(), strict=False):
        exif[number] = f"{name}:{text.decode()}"
    picture.save(out, kind, exif=exif)
    return out.getvalue()


def commented_jpeg(text: bytes) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "JPEG", comment=text)
    return out.getvalue()


def user_comment(order: str, encoded: bytes) -> bytes:
    """A JPEG whose EXIF folder has a UserComment."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    first = struct.pack(f"{order}HHHIII", 1, 0x8769, 4, 1, 26, 0)
    second = struct.pack(f"{order}HHHIII", 1, 0x9286, 7, len(encoded), 44, 0)
    block = b"Exif\0\0" + mark + struct.pack(f"{order}I", 8) + first + second + encoded
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(block) + 2) + block + b"\xff\xda\0\2"


BOTH = json.dumps({"prompt": TEXT.decode(), "workflow": {}}).encode()
HANDLER = box(b"hdlr", bytes(25))
KEYS = struct.pack(">II", 0, 2) + box(b"mdta", b"encoder") + box(b"mdta", b"prompt")

GOOD: dict[str, tuple[bytes, str, bytes]] = {
    "tEXt": (png((b"tEXt", b"workflow\0{}"), (b"tEXt", b"prompt\0" + TEXT)), "prompt", TEXT),
    "tEXt in UTF-8": (png((b"tEXt", b"prompt\0" + UTF8)), "prompt", UTF8),
    "tEXt in Latin-1": (png((b"tEXt", b'prompt\0{"a": "\xe9"}')), "prompt", '{"a": "é"}'.encode()),
    "the editor's alone": (png((b"tEXt", b"workflow\0" + TEXT)), "workflow", TEXT),
    "zTXt": (png((b"zTXt", b"prompt\0\0" + zlib.compress(TEXT))), "prompt", TEXT),
    "iTXt": (png((b"iTXt", b"prompt\0\0\0en\0prompt\0" + UTF8)), "prompt", UTF8),
    "compressed iTXt": (png((b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(UTF8))), "prompt", UTF8),
    "behind the picture": (png((b"IDAT", bytes(99)), (b"comf", b"prompt\0" + TEXT)), "prompt", TEXT),
    "another before": (png((b"tEXt", b"parameters\0x: 2"), (b"tEXt", b"prompt\0" + TEXT)), "prompt", TEXT),
    "WEBP": (pillow("WEBP", prompt=TEXT), "prompt", TEXT),
    "WEBP, the editor's": (pillow("WEBP", prompt=b"{}", workflow=TEXT), "workflow", TEXT),
    "JPEG": (pillow("JPEG", Prompt=TEXT), "prompt", TEXT),
    "JPEG comment": (commented_jpeg(BOTH), "comment", BOTH),
    "UserComment": (user_comment("<", b"ASCII\0\0\0" + BOTH), "comment", BOTH),
    "UserComment in UTF-16": (
        user_comment(">", b"UNICODE\0" + BOTH.decode().encode("utf-16-be")),
        "comment",
        BOTH,
    ),
    "MP4 with keys": (
        mp4(box(b"udta", box(b"meta", bytes(4) + HANDLER + box(b"keys", KEYS)
            + box(b"ilst", tag(struct.pack(">I", 1), b"Lavf") + tag(struct.pack(">I", 2), TEXT))))),
        "prompt",
        TEXT,
    ),
    "MP4 with a comment": (
        mp4(box(b"udta", box(b"meta", bytes(4) + HANDLER + box(b"ilst", tag(b"\xa9cmt", BOTH))))),
        "comment",
        BOTH,
    ),
    "QuickTime": (
        mp4(box(b"meta", HANDLER + box(b"keys", KEYS) + box(b"ilst", tag(bytes(3) + b"\2", TEXT)))),
        "prompt",
        TEXT,
    ),
    "WEBM": (matroska((b"ENCODER", b"x"), (b"PROMPT", TEXT)), "prompt", TEXT),
    "FLAC": (
        b"fLaC" + struct.pack(">I", 34) + bytes(34)
        + struct.pack(">I", 0x84 << 24 | len(vorbis(b"prompt=" + TEXT))) + vorbis(b"prompt=" + TEXT),
        "prompt",
        TEXT,
    ),
    "Ogg": (ogg(b"OpusHead", b"OpusTags" + vorbis(b"x=" + bytes(70_000), b"Prompt=" + UTF8)), "prompt", UTF8),
    "Vorbis": (ogg(b"\1vorbis", b"\3vorbis" + vorbis(b"prompt=" + UTF8)), "prompt", UTF8),
    "MP3": (id3(4, (b"TIT2", b"\3x"), (b"TXXX", b"\3prompt\0" + UTF8)), "prompt", UTF8),
    "MP3, older": (
        id3(3, (b"TXXX", b"\1" + "prompt\0".encode("utf-16") + UTF8.decode().encode("utf-16"))),
        "prompt",
        UTF8,
    ),
}  # fmt: skip


def found(content: bytes, limit: int = LIMIT) -> dict[str, bytes]:
    return dict(texts_in(io.BytesIO(content), limit))


@pytest.mark.parametrize("name", GOOD)
def test_a_text_is_found_wherever_programs_put_it(name: str) -> None:
    content, key, text = GOOD[name]
    assert found(content)[key] == text
    assert is_media(content[:64])


@pytest.mark.parametrize("path", sorted(MEDIA.iterdir()), ids=lambda path: path.name)
def test_files_that_comfyui_wrote(path: Path) -> None:
    graph = json.loads(found(path.read_bytes())["prompt"])
    assert graph["1"]["class_type"] == "EmptyImage"


def test_pillow_reads_the_pictures_that_are_built_here() -> None:
    """The frame is that of a PNG: the specification, and not this reader, says what is in it."""
    info, out = PngInfo(), io.BytesIO()
    info.add_text("prompt", TEXT.decode(), zip=True)
    Image.new("RGB", (2, 2)).save(out, "PNG", pnginfo=info)
    assert found(out.getvalue()) == {"prompt": TEXT}


@pytest.mark.parametrize("name", GOOD)
def test_a_file_that_is_cut_anywhere_gives_the_whole_text_or_none(name: str) -> None:
    content, key, text = GOOD[name]
    for end in {*range(0, len(content), 1 + len(content) // 200)}:
        assert found(content[:end]).get(key, text) == text


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_no_byte_makes_it_fail(name: str, place: int, change: bytes) -> None:
    content = bytearray(GOOD[name][0])
    at = place % len(content)
    content[at : at + len(change)] = change
    with contextlib.suppress(Damaged, TextTooLong):
        found(bytes(content))


def test_a_text_that_does_not_inflate_is_damaged() -> None:
    with pytest.raises(Damaged):
        found(png((b"zTXt", b"prompt\0\0not zlib")))


@pytest.mark.parametrize(
    "content",
    [
        png((b"tEXt", b"prompt\0" + bytes(2000))),
        png((b"zTXt", b"prompt\0\0" + zlib.compress(bytes(2000)))),
        png((b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(bytes(10**6)))),
        mp4(box(b"meta", box(b"hdlr", b"") + box(b"ilst", tag(b"\xa9cmt", bytes(2000))))),
        matroska((b"PROMPT", bytes(2000))),
        b"fLaC" + struct.pack(">I", 0x84 << 24 | 2023) + vorbis(b"prompt=" + bytes(2000)),
        ogg(b"OpusHead", b"OpusTags" + vorbis(b"prompt=" + bytes(20_000))),
    ],
)
def test_a_text_longer_than_asked_for_is_not_read(content: bytes) -> None:
    with pytest.raises(TextTooLong):
        found(content, 1000)


def test_the_walk_through_a_file_is_bounded() -> None:
    many = png(*[(b"tEXt", b"a\0b")] * MAX_PARTS, (b"tEXt", b"prompt\0{}"))
    assert found(many) == {}
    assert found(mp4(b"".join(box(b"free", b"") for _ in range(MAX_PARTS)) + box(b"udta", b""))) == {}


def test_a_long_chain_of_boxes_in_boxes_ends() -> None:
    inner = tag(b"\xa9cmt", BOTH)
    for _ in range(200):
        inner = box(b"udta", inner)
    assert found(mp4(inner)) == {}


def test_other_media_have_no_text() -> None:
    assert found(b"GIF89a" + bytes(20)) == {}
    assert found(b"RIFF\0\0\0\0WAVE" + bytes(20)) == {}
