"""A browser for all tests of the package; each has a page, an engine and a server of its own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.apps.host import Host, open_host
from tests.support.browser import open_browser
from tests.support.mcp_http import open_sidecar
from tests.support.mcp_surface import open_surface

OpenApp = Callable[[], AbstractAsyncContextManager[Host]]


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def open_app(browser: Browser, tmp_path: Path) -> OpenApp:
    """A host beside a bridge over HTTP. Opened in a test: the SDK's scopes end in the task they began in."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Host]:
        async with (
            open_surface(tmp_path) as surface,
            open_sidecar(surface.services, surface.settings) as sidecar,
        ):
            page = await browser.new_page(viewport={"width": 700, "height": 700})
            try:
                async with open_host(page, sidecar.url) as host:
                    yield host
            finally:
                await page.close()

    return opened
