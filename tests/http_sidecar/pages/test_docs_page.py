"""The docs page: it loads what it needs from here and nothing from elsewhere."""

import hashlib
import re
from html.parser import HTMLParser

import pytest

from http_sidecar.pages.docs_page import FILES, FOREVER, STATIC
from tests.http_sidecar.conftest import Http


class Page(HTMLParser):
    """What a page loads, and whether anything stands in it that its policy forbids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self._open: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self._open = tag
        self.inline += [name for name in named if name.startswith("on") or name == "style"]
        address = named.get("src") if tag == "script" else named.get("href") if tag == "link" else None
        if address:
            self.loads.append(address)

    def handle_data(self, data: str) -> None:
        if self._open in {"script", "style"} and data.strip():
            self.inline.append(data)


async def page_of(http: Http) -> Page:
    async with http.get("/docs") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        return Page(await answer.text())


async def test_everything_the_page_loads_is_served_here_and_kept_for_good(http: Http) -> None:
    files = [address for address in (await page_of(http)).loads if not address.startswith("data:")]
    assert {address.partition("?")[0] for address in files} == {f"docs/{name}" for name in FILES}
    for address in files:
        async with http.get(f"/{address}") as answer:
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == FOREVER
            assert answer.content_type == ("text/css" if ".css" in address else "text/javascript")
            assert await answer.read() == FILES[address.partition("?")[0].removeprefix("docs/")].read_bytes()


async def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere(http: Http) -> None:
    async with http.get("/docs") as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert re.findall(r"\b\w+://", policy) == []
    assert policy.startswith("default-src 'none';")
    assert (await page_of(http)).inline == []


async def test_a_file_of_another_version_is_asked_for_again(http: Http) -> None:
    for query in ("", "?v=0000"):
        async with http.get(f"/docs/page.js{query}") as answer:
            assert answer.headers["Cache-Control"] == "no-cache"
            etag = answer.headers["ETag"]
    async with http.get("/docs/page.js", headers={"If-None-Match": etag}) as answer:
        assert answer.status == 304


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "..%2Fopenapi%2Fparts.py", "swagger-ui"])
async def test_what_the_page_does_not_need_is_not_served(http: Http, name: str) -> None:
    async with http.get(f"/docs/{name}") as answer:
        assert answer.status == 404
        assert (await answer.json())["code"] == "route_not_found"


def test_the_vendored_files_are_those_of_the_release() -> None:
    folder = STATIC / "swagger-ui"
    lines = [line.split() for line in (folder / "SHA256SUMS").read_text().splitlines()]
    sums = {name: digest for digest, name in lines}
    assert {path.name for path in folder.iterdir()} == {*sums, "SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
