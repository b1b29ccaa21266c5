"""What a person sees of the page, and does with it."""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page

from tests.support import graphs
from tests.support.browser import LIMIT_MS

Open = Callable[..., Awaitable[Page]]

_NETWORK = "Failed to load resource"
"""What Chromium writes for every answer of 4xx and 5xx, and for none: the page has to bear them."""


_LISTEN = """addEventListener("DOMContentLoaded", () => {
  window.heard = [];
  const says = document.getElementById("says");
  if (says) new MutationObserver(() => heard.push(says.textContent)).observe(says, { childList: true });
});"""
"""Keeps all that the page says to a screen reader: each sentence stands only until the next."""

_AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")


class Pages:
    """`faults`: exceptions that nobody caught, and what the page's policy has refused."""

    def __init__(self, browser: Browser) -> None:
        self.faults: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    async def open(self, url: str, **options: Any) -> Page:
        """A page in a context of its own; `options` are those of Playwright's new_context."""
        context = await self._browser.new_context(**options)
        self._contexts.append(context)
        context.set_default_timeout(LIMIT_MS)
        await context.add_init_script(_LISTEN)
        page = await context.new_page()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._heard)
        await page.goto(f"{url}/")
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(_NETWORK):
            self.faults.append(message.text)

    async def close(self) -> None:
        for context in self._contexts:
            await context.close()


def endless() -> dict[str, Any]:
    """A workflow that runs for as long as a test may take."""
    return graphs.slow(step_ms=200)


def card(page: Page, job: str) -> Locator:
    return page.locator(f'.job[data-id="{job}"]')


def button(place: Page | Locator, name: str) -> Locator:
    """By what is written on it."""
    return place.locator("button", has_text=name).first


async def heard(page: Page, text: str) -> None:
    """The page has said it to a screen reader, or does so now."""
    await page.wait_for_function("(text) => window.heard.join(' ').includes(text)", arg=text)


def notice(page: Page, tone: str) -> Locator:
    return page.locator(f'.notice[data-tone="{tone}"]').first


async def complaints(page: Page) -> list[str]:
    """What axe finds, as "rule: element". The page was opened with `bypass_csp`."""
    await page.evaluate(_AXE)
    violations: Any = await page.evaluate("async () => (await axe.run()).violations")
    return [f"{rule['id']}: {node['html']}" for rule in violations for node in rule["nodes"]]


async def choose(page: Page, name: str, content: bytes) -> None:
    """Submits a file through the file dialog."""
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="Choose files").click()
    await (await chooser.value).set_files({"name": name, "mimeType": "", "buffer": content})


DROP = """async ([name, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name));
  const target = document.getElementById("outputs");
  for (const type of ["dragenter", "dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: data }));
  }
}"""
"""Drops a file onto the page."""
