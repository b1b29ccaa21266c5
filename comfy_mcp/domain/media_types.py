"""The media type of a file: by its first bytes if they are conclusive, else by its suffix."""

from collections.abc import Mapping

UNKNOWN = "application/octet-stream"
HEAD_BYTES = 64
"""The first bytes that `media_type_of` needs."""

_BY_SUFFIX: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".tiff": "image/tiff",
    ".tif": "image/tiff",
    ".avif": "image/avif",
    ".exr": "image/x-exr",
    ".svg": "image/svg+xml",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".srt": "application/x-subrip",
    ".json": "application/json",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".obj": "model/obj",
    ".ply": "model/ply",
    ".stl": "model/stl",
    ".usdz": "model/vnd.usdz+zip",
    ".safetensors": UNKNOWN,
}

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AVI ", "video/x-msvideo"),
    (4, b"ftypavi", "image/avif"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftyp", "video/mp4"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (0, b"glTF", "model/gltf-binary"),
    (0, b"BM", "image/bmp"),
)
_BEGIN_SO = frozenset(
    {
        *("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"),
        *("audio/flac", "audio/ogg", "video/webm"),
    }
)
"""Types of which every file has the first bytes that are known here."""

_RIFF_TYPES = frozenset({"image/webp", "audio/wav", "video/x-msvideo"})
_MATROSKA = b"\x1a\x45\xdf\xa3"


def media_type_of(filename: str, head: bytes = b"") -> str:
    """The media type of a file whose first bytes are `head`.

    A browser would run the scripts of one type, SVG: the answer must forbid them.
    """
    return (_type_by_bytes(head) if head else None) or _type_by_suffix(filename)


def is_no_such_type(filename: str, head: bytes) -> bool:
    """Whether the name of a file says a type that its first bytes, HEAD_BYTES or all of it, do not begin."""
    return _type_by_suffix(filename) in _BEGIN_SO and _type_by_bytes(head) is None


def _type_by_suffix(filename: str) -> str:
    dot = filename.rfind(".")
    return _BY_SUFFIX.get(filename[dot:].lower(), UNKNOWN) if dot >= 0 else UNKNOWN


def _type_by_bytes(head: bytes) -> str | None:
    if head.startswith(_MATROSKA):
        return "video/webm" if b"webm" in head[:HEAD_BYTES] else "video/x-matroska"
    for offset, magic, media_type in _MAGIC:
        if head.startswith(magic, offset) and (media_type not in _RIFF_TYPES or head.startswith(b"RIFF")):
            return media_type
    return None
