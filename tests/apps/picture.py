"""docs/mcp-app.png: the view over a real run of the embedded engine (`make pictures`)."""

import tempfile
from pathlib import Path
from typing import Any

from playwright.async_api import expect

from tests.apps.host import open_host
from tests.support.browser import open_browser
from tests.support.mcp_surface import open_surface
from tests.support.skies import SKIES, sky

SHOWN = SKIES[:4]


def skies() -> dict[str, Any]:
    """The example once for each of SHOWN, in one graph."""
    graph: dict[str, Any] = {}
    for number, colors in enumerate(SHOWN):
        part = sky(colors)
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
                await expect(host.view.locator("[data-preview=shown]")).to_have_count(len(SHOWN))
                await page.locator("iframe").screenshot(path=target)
