"""The page at /: who gets it, what it may load, and that it is whole. What it does: tests/page."""

import re

import pytest

from http_sidecar.pages.docs_page import STATIC
from http_sidecar.pages.status_page import DIGEST, FILES, FOREVER, POLICY, wants_page
from tests.http_sidecar.conftest import Http
from tests.http_sidecar.pages.test_docs_page import Page

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER, True),
        ("TEXT/HTML", True),
        ("text/html;level=1;q=0.5, application/json;q=0.4", True),
        ("text/html;q=0.5, application/json", False),
        ("*/*", False),
        ("", False),
        ("text/*", False),
        ("application/json", False),
        ("text/html;q=0", False),
        ("text/html;q=1e9", False),
        ("text/html;q=nan", False),
        (",;,text/html ;q=0.001,", True),
    ],
)
async def test_the_page_is_for_who_names_it(http: Http, accept: str, page: bool) -> None:
    assert wants_page(accept) is page
    async with http.get("/", headers={"Accept": accept}) as answer:
        assert answer.status == 200
        assert answer.content_type == ("text/html" if page else "application/json")
        assert answer.headers["Vary"] == "Accept"


async def page_of(http: Http) -> Page:
    async with http.get("/", headers={"Accept": BROWSER}) as answer:
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["Content-Security-Policy"] == POLICY
        return Page(await answer.text())


async def test_nothing_is_inline_and_nothing_comes_from_elsewhere(http: Http) -> None:
    page = await page_of(http)
    assert page.inline == []
    assert all(address.startswith(f"page/{DIGEST}/") for address in page.loads)
    assert POLICY.startswith("default-src 'none';")
    assert "unsafe" not in POLICY
    for text in FILES.values():
        assert re.findall(r"(?:src|href|import|fetch|url)\W{1,3}(?:https?:)?//", text) == []


async def test_every_file_is_served_and_kept_for_good(http: Http) -> None:
    assert {"main.js", "page.css", "elements.js", "screen.css", "icon.svg"} <= set(FILES)
    for name, text in FILES.items():
        async with http.get(f"/page/{DIGEST}/{name}") as answer:
            assert (answer.status, await answer.text()) == (200, text)
            assert answer.headers["Cache-Control"] == FOREVER
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.content_type in {"text/javascript", "text/css", "image/svg+xml"}


@pytest.mark.parametrize(
    "path", [f"{DIGEST}/nothing.js", f"{DIGEST}/index.html", "0000/main.js", f"{DIGEST}/..%2Fpage.py"]
)
async def test_what_the_page_does_not_have_is_not_served(http: Http, path: str) -> None:
    async with http.get(f"/page/{path}") as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "route_not_found")


def test_every_module_is_imported_and_every_import_is_a_module() -> None:
    imported = {name for text in SCRIPTS.values() for name in re.findall(r'from "\./([^"]+)"', text)}
    assert imported | {"main.js"} == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_text_never_becomes_markup_or_code(name: str) -> None:
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    assert re.findall(rf"{markup}|window\.open|localStorage", SCRIPTS[name]) == []


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "elements.js"])
def test_ids_that_the_scripts_name_are_in_the_document(name: str) -> None:
    document = (STATIC / "page" / "index.html").read_text("utf-8")
    named = re.findall(r'(?:\$|getElementById)\("([\w-]+)"\)', SCRIPTS[name])
    made = re.findall(r'id: "([\w-]+)"', SCRIPTS[name])
    assert [each for each in named if f'id="{each}"' not in document and each not in made] == []
