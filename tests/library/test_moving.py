"""One picture of an animation, a video, a sound: made here, decoded here."""

import io
import math
import struct
import sys
from array import array
from fractions import Fraction
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from comfy_mcp.library import moving
from comfy_mcp.library.moving import NotShown, animation, decoded, peaks_of, sheet, wave, wave_picture


def frames(count: int, size: tuple[int, int] = (40, 30)) -> list[Image.Image]:
    return [Image.new("RGB", size, (255 * number // count, 0, 60)) for number in range(count)]


def animated(kind: str, count: int = 12) -> bytes:
    stream = io.BytesIO()
    first, *rest = frames(count)
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    first.save(stream, kind, save_all=True, append_images=rest, duration=200, loop=0, **options)
    return stream.getvalue()


to_frame: Any = av.VideoFrame.from_image


def video(count: int = 24, *, sound: bool = False, codec: str = "mpeg4", name: str = "x.mp4") -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format=name.rpartition(".")[2]) as container:
        pictures: Any = container.add_stream(codec, rate=Fraction(12))
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        tones: Any = container.add_stream("aac", rate=44_100) if sound else None
        for image in frames(count, (64, 48)):
            container.mux(pictures.encode(to_frame(image)))
        container.mux(pictures.encode())
        if tones is not None:
            container.mux(tones.encode(tone_frame(44_100)))
            container.mux(tones.encode())
    return stream.getvalue()


def tone_frame(rate: int) -> av.AudioFrame:
    frame = av.AudioFrame(format="s16", layout="mono", samples=1024)
    frame.planes[0].update(tone(1024, rate).tobytes())
    frame.sample_rate = rate
    return frame


def tone(count: int, rate: int = 8_000) -> "array[int]":
    return array("h", [round(20_000 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(count)])


def sound(codec: str, name: str, seconds: int = 2) -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format=name) as container:
        out: Any = container.add_stream(codec, rate=48_000)
        out.layout = "mono"
        size = out.frame_size or 1024
        resampler = av.AudioResampler(format=out.format.name, layout="mono", rate=48_000, frame_size=size)
        samples = tone(48_000 * seconds, 48_000)
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(samples))
        frame.planes[0].update(samples.tobytes())
        frame.sample_rate = 48_000
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(out.encode(part))
        container.mux(out.encode())
    return stream.getvalue()


def riff(
    coding: int, bits: int, data: bytes, *, channels: int = 1, rate: int = 8_000, extra: bytes = b""
) -> bytes:
    block = channels * bits // 8
    head = struct.pack("<HHIIHH", coding, channels, rate, rate * block, block, bits) + extra
    chunks = b"fmt " + struct.pack("<I", len(head)) + head + b"LIST" + struct.pack("<I", 3) + b"abc\0"
    return b"RIFF\0\0\0\0WAVE" + chunks + b"data" + struct.pack("<I", len(data)) + data


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_its_frames_and_its_length(kind: str) -> None:
    found = animation(animated(kind))
    assert found is not None
    assert found.facts == "2.4 s, 12 frames, 40x30"
    assert [label for label, _ in found.tiles][:2] == ["0.0 s", "0.2 s"]
    assert len(found.tiles) == 9
    reds = [tile.convert("RGB").getpixel((5, 5))[0] for _, tile in found.tiles]  # type: ignore[index]
    assert reds == sorted(reds)
    assert reds[-1] > reds[0] + 150


def test_a_single_picture_is_no_animation() -> None:
    stream = io.BytesIO()
    frames(1)[0].save(stream, "PNG")
    assert animation(stream.getvalue()) is None


def test_an_animation_too_large_to_decode_is_shown_as_far_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "DECODED_PIXELS", 40 * 30 * 3)
    found = animation(animated("GIF"))
    assert found is not None
    assert found.facts.startswith("more than 0.6 s, more than 3 frames")
    assert len(found.tiles) == 3


@pytest.mark.parametrize(
    ("codec", "name", "with_sound"),
    [
        ("mpeg4", "x.mp4", False),
        ("mpeg4", "x.mp4", True),
        ("libvpx", "x.webm", False),
    ],
)
def test_a_video_is_its_frames_and_its_length(codec: str, name: str, with_sound: bool) -> None:
    found = decoded(video(sound=with_sound, codec=codec, name=name))
    assert "64x48" in found.facts
    assert found.facts.startswith(("2.0 s, 12 frames a second", "1.9 s"))
    assert ("with sound" in found.facts) is with_sound
    assert len(found.tiles) == 9
    reds = [tile.convert("RGB").getpixel((20, 20))[0] for _, tile in found.tiles]  # type: ignore[index]
    assert reds == sorted(reds)
    assert reds[-1] > reds[0] + 120


@pytest.mark.parametrize(("codec", "name"), [("flac", "flac"), ("libmp3lame", "mp3"), ("libopus", "ogg")])
def test_a_sound_is_its_shape_and_its_length(codec: str, name: str) -> None:
    found = decoded(sound(codec, name))
    assert found.facts.startswith(("2.0 s", "2.1 s"))
    assert found.facts.endswith(", mono")
    assert 0.5 < max(high for _, high in found.peaks) < 0.75


TONE = tone(8_000)


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (riff(1, 16, TONE.tobytes()), "1.0 s, 8000 Hz, mono"),
        (riff(1, 16, TONE.tobytes(), channels=2), "0.5 s, 8000 Hz, stereo"),
        (riff(1, 16, TONE.tobytes(), channels=4), "0.2 s, 8000 Hz, 4 channels"),
        (riff(1, 8, bytes((each // 256) + 128 for each in TONE)), "1.0 s, 8000 Hz, mono"),
        (riff(1, 24, b"".join(struct.pack("<i", each << 8)[:3] for each in TONE)), "1.0 s, 8000 Hz, mono"),
        (riff(1, 32, b"".join(struct.pack("<i", each << 16) for each in TONE)), "1.0 s, 8000 Hz, mono"),
        (riff(3, 32, array("f", [each / 32768 for each in TONE]).tobytes()), "1.0 s, 8000 Hz, mono"),
        (riff(0xFFFE, 16, TONE.tobytes(), extra=b"\x16\0\x10\0\0\0\0\0\x01\0"), "1.0 s, 8000 Hz, mono"),
    ],
)
def test_a_wav_needs_no_decoder(data: bytes, facts: str) -> None:
    found = wave(data)
    assert found is not None
    assert found.facts == facts
    assert len(found.peaks) <= moving.COLUMNS
    assert max(high for _, high in found.peaks) == pytest.approx(20_000 / 32_768, abs=0.02)
    assert min(low for low, _ in found.peaks) == pytest.approx(-20_000 / 32_768, abs=0.02)


@pytest.mark.parametrize(
    "data",
    [b"", b"RIFF", riff(1, 16, b""), riff(2, 4, b"abc"), riff(1, 12, b"abcdef"), riff(1, 16, b"ab", rate=0),
     riff(1, 16, b"ab", channels=0), riff(1, 0, b"ab"), b"RIFF\0\0\0\0WAVEdata\x02\0\0\0ab"],
)  # fmt: skip
def test_what_is_no_wav_of_ours_is_left_to_the_decoder(data: bytes) -> None:
    assert wave(data) is None


@given(st.binary(max_size=200))
def test_no_bytes_break_the_readers(data: bytes) -> None:
    wave(data)
    wave(b"RIFF\0\0\0\0WAVE" + data)
    with pytest.raises(NotShown):
        decoded(b"no media " + data)


def test_floats_that_are_no_numbers_are_silence() -> None:
    found = wave(riff(3, 32, array("f", [math.nan, math.inf, 0.5]).tobytes()))
    assert found is not None
    assert found.peaks[2] == (0.5, 0.5)


def test_without_the_decoder_the_answer_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(NotShown, match=r"comfy-mcp-bridge\[media\]"):
        decoded(video())


def test_a_video_of_enormous_frames_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "FRAME_PIXELS", 100)
    with pytest.raises(NotShown, match="64x48 are too large"):
        decoded(video())


def test_decoding_ends_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "DECODE_S", 0.0)
    assert len(decoded(video()).tiles) == 9
    assert len(decoded(sound("flac", "flac", 4)).peaks) < moving.COLUMNS + 1


def test_the_sheet_has_a_place_for_each_tile() -> None:
    tiles = [(str(number), image.convert("RGBA")) for number, image in enumerate(frames(5))]
    assert sheet(tiles, max_px=600).size == (600, 400)
    assert sheet(tiles[:1], max_px=600).size == (256, 256)
    assert sheet(tiles, max_px=30).size == (48, 32)


def test_the_shape_of_a_sound_fills_the_picture() -> None:
    image = wave_picture(peaks_of(TONE, 32_768.0))
    assert image.size == (moving.COLUMNS, 200)
    rows = {y for y in (10, 60, 140, 190) for x in range(640) if image.getpixel((x, y)) == (40, 90, 160)}
    assert rows == {60, 140}  # the loudest sample is at 0.61
    assert wave_picture([(0.0, 0.0)]).size == image.size
