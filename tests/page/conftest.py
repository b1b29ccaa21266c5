"""The page in a real browser, over a real sidecar with the embedded engine. One browser for all the tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.page.seen import Open, Pages
from tests.support.browser import open_browser
from tests.support.sidecar import Sidecar, open_sidecar

# pytest.mark.asyncio(loop_scope="package") stands in every module: the browser lives in one loop.


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="package")
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    """No key is asked for."""
    async with open_sidecar(tmp_path) as sidecar:
        yield sidecar


@pytest_asyncio.fixture(loop_scope="package")
async def visit(browser: Browser) -> AsyncIterator[Open]:
    """Opens pages; at the end none of them may have met an error that nobody expected."""
    pages = Pages(browser)
    try:
        yield pages.open
        assert pages.faults == []
    finally:
        await pages.close()
