"""docs/page.png: the page over a real run of the embedded engine (`make pictures`)."""

import tempfile
from pathlib import Path
from typing import Any

from tests.support import graphs
from tests.support.browser import open_browser
from tests.support.sidecar import WORKFLOW, open_sidecar
from tests.support.skies import SKIES, sky

IN_SIGHT_SHOWN = """(count) => {
    const tiles = [...document.querySelectorAll(".tile")];
    const seen = tiles.filter((tile) => tile.getBoundingClientRect().top < innerHeight);
    return tiles.length === count && seen.every((tile) => tile.dataset.preview === "shown");
}"""
"""The page asks for the previews in sight: how many tiles those are, changes with the cards above them."""


def half_done() -> dict[str, Any]:
    """A first picture is soon there, and a second one takes longer than anybody looks."""
    endless, saved = graphs.slow(steps=10_000, step_ms=500).values()
    endless["inputs"]["color"] = 0xE8A15C
    saved["inputs"]["images"] = ["3", 0]
    return graphs.slow(steps=20) | {"3": endless, "4": saved}


async def make(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_sidecar(Path(folder)) as sidecar, open_browser(Path(folder)) as browser:
            for colors in SKIES:
                await sidecar.ended(await sidecar.submit(sky(colors), name="Evening sky"))
            await sidecar.ended(
                await sidecar.submit(graphs.failing("the picture has no alpha channel"), name="Cut out")
            )
            running = await sidecar.submit(half_done(), name="Fox in the snow")
            waiting = [
                await sidecar.submit(sky(colors), name="Evening sky", priority="high") for colors in SKIES[:2]
            ]
            page = await browser.new_page(viewport={"width": 1360, "height": 900})
            await page.goto(f"{sidecar.url}/")
            await page.wait_for_function(IN_SIGHT_SHOWN, arg=len(SKIES))
            bar = f'.job[data-id="{running}"] progress'
            await page.wait_for_function("(s) => document.querySelector(s).value > 40", arg=bar)
            await page.screenshot(path=target)
            for job in (*waiting, running):
                await sidecar("DELETE", f"{WORKFLOW}/{job}")
