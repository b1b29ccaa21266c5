"""Makes docs/mcp-app.png: the view over a real run of the embedded engine.

.venv/bin/python -m tests.apps.picture docs/mcp-app.png
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.async_api import expect

from tests.apps.host import open_host
from tests.support.browser import open_browser
from tests.support.mcp_surface import open_surface

EXAMPLE = Path(__file__).parents[2] / "examples" / "01_picture.json"
SKIES = [
    (0x0E2A4A, 0x6B4A9E, 0xF29D54),
    (0x0B3D4F, 0x2F8F8B, 0xF2D399),
    (0x2A1246, 0xB0446B, 0xFFC36A),
    (0x10243D, 0x3F6FB5, 0xDCE6F5),
]


def skies() -> dict[str, Any]:
    """The example once for each of SKIES, in one graph: nodes 1 to 3 are the bands of the sky."""
    graph: dict[str, Any] = {}
    for number, colors in enumerate(SKIES):
        part = json.loads(EXAMPLE.read_text("utf-8"))
        for node, color in zip(("1", "2", "3"), colors, strict=True):
            part[node]["inputs"]["color"] = color
        for node in part.values():
            node["inputs"] = {
                name: [f"{number}-{value[0]}", value[1]] if isinstance(value, list) else value
                for name, value in node["inputs"].items()
            }
        graph |= {f"{number}-{name}": node for name, node in part.items()}
    return graph


async def make(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_surface(Path(folder)) as surface, open_browser(Path(folder)) as browser:
            page = await browser.new_page(viewport={"width": 720, "height": 400})
            async with open_host(page, surface.server) as host:
                await host.show(context={"theme": "light"})
                await host.call("submit_workflow", workflow=skies())
                await expect(host.view.locator("[data-preview=shown]")).to_have_count(len(SKIES))
                await page.locator("iframe").screenshot(path=target)


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1])))
