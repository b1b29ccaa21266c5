"""A headless Chromium, driven by Playwright. It opens nothing but pages that the tests serve."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright, expect

from tests.support.debian import program

ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LIMIT_MS = 30_000
"""Only ends a test that hangs: nothing in a page of ours takes so long."""


@asynccontextmanager
async def open_browser(home: Path) -> AsyncIterator[Browser]:
    """A browser whose home, cache and settings lie in `home`."""
    environment: dict[str, str | float | bool] = {
        **os.environ,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "TMPDIR": str(home),
    }
    expect.set_options(timeout=LIMIT_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program("chromium"),
            args=ARGUMENTS,
            env=environment,
            chromium_sandbox=os.geteuid() != 0,  # root has none
            timeout=LIMIT_MS,
        )
        try:
            yield browser
        finally:
            await browser.close()
