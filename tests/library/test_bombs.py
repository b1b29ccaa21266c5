"""Small files that cost much, or lead elsewhere: each is refused, or shown as far as a bound goes."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from comfy_mcp.domain.errors import BridgeError, ErrorCode
from comfy_mcp.library import moving, previews
from comfy_mcp.library.media_texts import texts_in
from comfy_mcp.library.moving import NotShown, animation, decoded, wave
from comfy_mcp.library.previews import make_preview
from comfy_mcp.library.tagged_texts import MAX_TEXTS, TextTooLong
from tests.library.test_media_texts import png
from tests.library.test_moving import animated, riff, sound, video


def gif(frames: int) -> bytes:
    """Frames of one pixel, 15 bytes each (GIF89a)."""
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + frame * frames + b"\x3b"


def tiff(pages: int) -> bytes:
    """Pages of one pixel, 54 bytes each (TIFF 6.0)."""
    made = bytearray(b"II*\0" + struct.pack("<I", 8))
    for page in range(pages):
        at = len(made)
        made += struct.pack("<H", 4)
        for tag, value in ((256, 1), (257, 1), (258, 8), (273, 8)):
            made += struct.pack("<HHII", tag, 3, 1, value)
        made += struct.pack("<I", at + 54 if page < pages - 1 else 0)
    return bytes(made)


@pytest.mark.parametrize("made", [gif, tiff])
def test_frames_are_decoded_up_to_a_number_and_never_counted_beforehand(
    made: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "MAX_FRAMES", 50)
    whole, long = animation(made(50)), animation(made(20_000))
    assert whole is not None
    assert long is not None
    assert (whole.facts.split(", ")[1], long.facts.split(", ")[1]) == ("50 frames", "more than 50 frames")
    assert len(whole.tiles) == len(long.tiles) == moving.FRAMES


def test_an_animation_that_takes_too_long_is_shown_as_far_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "DECODE_S", -1.0)
    found = animation(gif(9))
    assert found is not None
    assert found.facts.startswith("more than 0.1 s, more than 1 frames")
    assert len(found.tiles) == 1


@pytest.mark.parametrize("count", [*range(2, 60), 100, 999])
def test_the_frames_that_are_shown_are_spread_over_all(count: int) -> None:
    found = animation(gif(count))
    assert found is not None
    times = [float(label.removesuffix(" s")) for label, _ in found.tiles]
    assert len(times) == min(count, moving.FRAMES)
    assert times[0] == 0.0
    assert times[-1] >= 0.1 * (count - 1) * 0.9 - 0.1
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps) <= 2 * min(gaps) + 0.15


def test_a_jpeg_of_many_scans_is_not_decoded() -> None:
    stream = io.BytesIO()
    Image.new("L", (2_000, 2_000), 7).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    preview = partial(make_preview, max_px=64, max_bytes=100_000, max_pixels=10**8)
    assert preview(data).width == 64
    last = data[data.rindex(b"\xff\xda") : -2]
    many = data[:-2] + last * (previews.SCANNED_PIXELS // 2_000**2) + data[-2:]
    with pytest.raises(BridgeError, match="more scans") as caught:
        preview(many)
    assert caught.value.code is ErrorCode.OUTPUT_UNREADABLE


def test_a_large_picture_is_made_small_before_it_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, copied = io.BytesIO(), list[tuple[int, int]]()
    Image.new("RGBA", (3_000, 2_000), (9, 9, 9, 99)).save(stream, "PNG")
    copy = Image.Image.copy

    def noted(image: Image.Image) -> Image.Image:
        copied.append(image.size)
        return copy(image)

    monkeypatch.setattr(Image.Image, "copy", noted)
    found = make_preview(stream.getvalue(), max_px=100, max_bytes=100_000, max_pixels=10**7)
    assert found.width == 100
    assert copied
    assert max(copied) <= (100, 100)


def test_of_a_long_sound_the_beginning_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "WAVE_BYTES", 16_000)
    found = wave(riff(1, 16, b"\1\2" * 80_000))
    assert found is not None
    assert found.facts == "10.0 s, 8000 Hz, mono, the beginning"


TEXT = b'{"a": 1}' + b" " * 9_000
PACKED = b"\0\0" + zlib.compress(TEXT)


@pytest.mark.parametrize("chunk", [(b"zTXt", b"comment" + PACKED), (b"tEXt", b"comment\0" + TEXT)])
def test_the_texts_of_a_file_are_unpacked_up_to_a_length_in_all(chunk: tuple[bytes, bytes]) -> None:
    few, many = png(*[chunk] * MAX_TEXTS), png(*[chunk] * 1_000)
    assert texts_in(io.BytesIO(few), len(TEXT)) == {"comment": TEXT}
    with pytest.raises(TextTooLong):
        texts_in(io.BytesIO(many), len(TEXT))


ELSEWHERE = {
    "a list of files": b"ffconcat version 1.0\nfile secret.wav\n",
    "a playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsecret.wav\n#EXT-X-ENDLIST\n",
    "a port": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    b"a=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("data", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_video_that_names_other_files_leads_nowhere(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg would open a file of this machine, or wait on a port."""
    (tmp_path / "secret.wav").write_bytes(riff(1, 16, b"\1\2" * 8_000))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotShown, match="can't be decoded"):
        decoded(data)


def test_only_containers_of_pictures_and_sound_are_opened() -> None:
    """None of them names other files or addresses, and a protocol is needed by none."""
    allowed = set(moving.CONTAINERS["format_whitelist"].split(","))
    assert not allowed & {
        "concat",
        "hls",
        "applehttp",
        "dash",
        "sdp",
        "rtsp",
        "image2",
        "tty",
        "lavfi",
        "imf",
    }
    assert allowed <= {name for each in av.formats_available for name in each.split(",")}


MOVING = (video(), video(sound=True), video(name="x.matroska"), video(name="x.avi"), sound("flac", "flac"))
STILL = (animated("GIF"), animated("WEBP"), animated("PNG"))
CHANGE = st.tuples(st.integers(0, 2**16), st.binary(max_size=8), st.integers(0, 40))


Change = tuple[int, bytes, int]


def damaged(data: bytes, changes: list[Change]) -> bytes:
    for place, new, gone in changes:
        at = place % len(data)
        data = data[:at] + new + data[at + gone :] or b"\0"
    return data


@given(st.sampled_from(MOVING), st.lists(CHANGE, max_size=8))
def test_a_damaged_video_or_sound_is_shown_or_a_sentence(data: bytes, changes: list[Change]) -> None:
    with contextlib.suppress(NotShown):
        decoded(damaged(data, changes))


@given(st.sampled_from(STILL), st.lists(CHANGE, max_size=8))
@pytest.mark.filterwarnings("ignore:Invalid APNG")
def test_a_damaged_animation_is_shown_or_a_sentence(data: bytes, changes: list[Change]) -> None:
    with contextlib.suppress(BridgeError), previews.readable(10**8):
        animation(damaged(data, changes))


def test_a_video_of_an_unknown_coding_is_a_sentence() -> None:
    data = video()
    assert data.count(b"mp4v") == 1
    with pytest.raises(NotShown, match="can't be decoded"):
        decoded(data.replace(b"mp4v", b"none").replace(b"esds", b"free"))


@pytest.mark.parametrize("kind", ["x.mp4", "x.matroska", "x.avi", "x.mpegts", "x.mov", "x.flv"])
def test_the_usual_videos_are_opened(kind: str) -> None:
    assert len(decoded(video(name=kind, codec="flv" if kind == "x.flv" else "mpeg4")).tiles) > 0


@pytest.mark.parametrize(("codec", "kind"), [("flac", "flac"), ("libmp3lame", "mp3"), ("aac", "adts")])
def test_the_usual_sounds_are_opened(codec: str, kind: str) -> None:
    assert decoded(sound(codec, kind)).peaks
