"""examples/01_picture.json in other colours: what the screenshots in docs/ show."""

import json
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[2] / "examples" / "01_picture.json"
SKIES = [
    (0x0E2A4A, 0x6B4A9E, 0xF29D54),
    (0x0B3D4F, 0x2F8F8B, 0xF2D399),
    (0x2A1246, 0xB0446B, 0xFFC36A),
    (0x10243D, 0x3F6FB5, 0xDCE6F5),
    (0x1D3325, 0x5E8C4A, 0xF0E6A6),
    (0x3A1420, 0xB5482F, 0xF6B17A),
    (0x14213D, 0x7D5BA6, 0xF7A6B5),
    (0x0C1B2A, 0x276678, 0x9FD8CB),
    (0x2B2D42, 0x8D99AE, 0xEDF2F4),
    (0x231942, 0x5E548E, 0xE0B1CB),
    (0x132A13, 0x4F772D, 0xECF39E),
]


def sky(colors: tuple[int, int, int]) -> dict[str, Any]:
    """The example with other colours: nodes 1 to 3 are the bands of the sky."""
    graph: dict[str, Any] = json.loads(EXAMPLE.read_text("utf-8"))
    for node, color in zip(("1", "2", "3"), colors, strict=True):
        graph[node]["inputs"]["color"] = color
    return graph
