"""The site of docs/ is built without a network and has every document; a link that leads nowhere fails."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OUTSIDE = ("README.md", "CHANGELOG.md", "deploy/README.md")
"""Documents that are not in docs/: their links are checked here."""


def build(folder: Path, site: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=folder,
        env=os.environ
        | {
            "NO_MKDOCS_2_WARNING": "1",
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_site_has_every_document_and_takes_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    documents = {file.relative_to(ROOT / "docs").with_suffix("") for file in (ROOT / "docs").rglob("*.md")}
    pages = {
        file.relative_to(tmp_path / "site").with_suffix("") for file in (tmp_path / "site").rglob("*.html")
    }
    assert pages - {Path("404")} == documents
    start = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:)?//', start)
    assert loaded == []


@pytest.mark.parametrize("broken", ["[x](nowhere.md)", "[x](http.md#no-such-heading)"])
def test_a_link_that_leads_nowhere_fails(tmp_path: Path, broken: str) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    with (tmp_path / "docs" / "cli.md").open("a", encoding="utf-8") as document:
        document.write(f"\n{broken}\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert broken.partition("(")[2].rstrip(")").partition("#")[2] in done.stderr


@pytest.mark.parametrize("name", OUTSIDE)
def test_the_links_of_the_other_documents_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert links
    folder = (ROOT / name).parent
    assert [link for link in links if not (folder / link.partition("#")[0]).exists()] == []
