"""docs/page.md: its links lead somewhere, its settings exist, its bounds are those of the page's scripts."""

import re
from pathlib import Path

import pytest

from http_sidecar.pages.status_page import FILES

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "page.md").read_text(encoding="utf-8")


def test_links_lead_to_what_is_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", DOCUMENT)
    assert "page.png" in targets
    assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []


@pytest.mark.parametrize(
    ("script", "constant", "said"),
    [
        ("visit.js", "MAX_WAITING_SHOWN = 10;", "ten queued workflows"),
        ("visit.js", "MAX_RECENT_SHOWN = 150;", "150 ended"),
        ("outputs.js", "MAX_SHOWN = 240;", "240 outputs"),
        ("viewer.js", "MAX_BYTES = 256 * 2 ** 20;", "larger than 256 MiB"),
    ],
)
def test_a_bound_is_what_the_document_says(script: str, constant: str, said: str) -> None:
    assert constant in FILES[script]
    assert said in " ".join(DOCUMENT.split())


def test_the_picture_is_small_enough_to_read_the_documents_with() -> None:
    assert (ROOT / "docs" / "page.png").stat().st_size < 250_000
