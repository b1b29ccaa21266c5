"""Graphs that the embedded engine runs. Each call gives a new colour where the cache must not answer."""

import base64
import itertools
import random
import struct
import zlib
from typing import Any

_colors = itertools.count(1)


def picture(prefix: str = "t/picture", *, size: int = 64) -> dict[str, Any]:
    """EmptyImage → SaveImage: one PNG, milliseconds."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": size, "height": size, "batch_size": 1, "color": next(_colors)},
            "_meta": {"title": "Blank"},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


def slow(*, steps: int = 1000, step_ms: int = 20, prefix: str = "t/slow") -> dict[str, Any]:
    """A node that reports steps, then SaveImage. The embedded engine's own node."""
    return {
        "1": {
            "class_type": "BridgeSlowImage",
            "inputs": {
                "width": 64,
                "height": 64,
                "color": next(_colors),
                "steps": steps,
                "step_ms": step_ms,
                "seed": next(_colors),
            },
            "_meta": {"title": "Patience"},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


def failing(message: str = "boom") -> dict[str, Any]:
    graph = picture()
    graph["3"] = {"class_type": "BridgeFail", "inputs": {"image": ["1", 0], "message": message}}
    graph["2"]["inputs"]["images"] = ["3", 0]
    return graph


def text(value: str = "hello") -> dict[str, Any]:
    """A text output without a file."""
    return {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": f"{value} {next(_colors)}"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }


def own_file(rng: random.Random, *, side: int = 256) -> dict[str, Any]:
    """LoadImage of a file of the caller's → SaveImage. Noise: some 200 KB that nobody else has."""
    rows = b"".join(b"\0" + rng.randbytes(3 * side) for _ in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b""))
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    return {
        "1": {
            "class_type": "LoadImage",
            "inputs": {"image": f"data:image/png;base64,{base64.b64encode(png).decode()}"},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "t/file"}},
    }
