"""Media types by the first bytes, then by the suffix."""

import pytest

from comfy_mcp.domain.media_types import is_no_such_type, media_type_of


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\x89PNG\r\n\x1a\n....", "image/png"),
        (b"\xff\xd8\xff\xe0....", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/wav"),
        (b"\x00\x00\x00\x20ftypisom", "video/mp4"),
        (b"\x00\x00\x00\x20ftypavif", "image/avif"),
        (b"\x00\x00\x00\x14ftypqt  ", "video/quicktime"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", "video/webm"),
        (b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\x01\x42\x82\x88matroska", "video/x-matroska"),
        (b"fLaC", "audio/flac"),
        (b"OggS", "audio/ogg"),
        (b"glTF\x02\x00\x00\x00", "model/gltf-binary"),
    ],
)
def test_first_bytes_say_what_it_is_whatever_the_name(head: bytes, media_type: str) -> None:
    assert media_type_of("x.bin", head) == media_type
    assert media_type_of("x.txt", head) == media_type


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.PNG", "image/png"),
        ("a.b.mp3", "audio/mpeg"),
        ("a.json", "application/json"),
        ("a.latent", "application/octet-stream"),
        ("no-suffix", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_the_suffix_decides_where_the_bytes_do_not(name: str, media_type: str) -> None:
    assert media_type_of(name) == media_type
    assert media_type_of(name, b"....WEBPWAVE") == media_type


@pytest.mark.parametrize("name", ["a.html", "a.xhtml", "a.js"])
def test_nothing_that_a_browser_would_run(name: str) -> None:
    assert media_type_of(name, b"<html><script>") == "application/octet-stream"


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.png", b"no picture", True),
        ("a.PNG", b"\xff\xd8\xff\xe0", False),  # a picture of another type
        ("a.ogg", b"text", True),
        ("a.mp3", b"\xff\xfb", False),  # files of this type begin in several ways
        ("a.psd", b"8BPS", False),
    ],
)
def test_a_name_that_the_bytes_do_not_bear_out(name: str, head: bytes, expected: bool) -> None:
    assert is_no_such_type(name, head) is expected
