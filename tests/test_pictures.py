"""`make pictures` makes each picture of docs/, but for those that stand with a transcript."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from tests.agent import moving
from tests.pictures import PICTURES, ROOT


@pytest.mark.parametrize("name", PICTURES)
async def test_a_picture_is_made_as_it_stands_in_the_documents(name: str, tmp_path: Path) -> None:
    """Pixels differ with fonts and times; the size does not, unless what is shown has changed."""
    made, kept = tmp_path / name, ROOT / "docs" / name
    await PICTURES[name](made)
    if made.suffix == ".svg":
        assert words_of(made) == words_of(kept)
        return
    with Image.open(made) as new, Image.open(kept) as old:
        assert (new.format, new.width) == (old.format, old.width)
        assert abs(new.height - old.height) <= 40
        assert len(new.convert("RGB").getcolors(2**24) or []) > 100  # something is shown


def words_of(svg: Path) -> list[str]:
    """What stays the same in each run."""
    texts = [(each.text or "")[:80] for each in ET.parse(svg).iter("{http://www.w3.org/2000/svg}text")]
    return [" ".join(re.sub(r"[0-9a-f-]{36}|\d[\d.:]*", "N", text).split()[:3]) for text in texts]


def test_no_picture_of_the_documents_is_made_by_hand() -> None:
    shown = {
        Path(link).name
        for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", document.read_text("utf-8"))
        if "://" not in link
    }
    assert shown == {*PICTURES, *moving.PICTURES.values()}
