"""docs/architecture.md draws every part of the tree and nothing else, and what it names exists."""

import importlib
import re
from functools import reduce
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
DRAWING = PAGE.split("```")[1]
TABLE = re.findall(r"^\| `((?:comfy_mcp|http_sidecar)/[\w/.]+)` \| (.+) \|$", PAGE, re.MULTILINE)
MOST_FUNCTIONS = 12
UNDRAWN = {"__init__.py", "__main__.py"}
SMALL = {"comfy_mcp/store/migrations/versions/"}
"""A list of files, and no part of its own."""


def parts() -> set[str]:
    """The packages, and the modules that stand beside them."""
    found = set()
    for root in ("comfy_mcp", "http_sidecar"):
        packages = {path.parent for path in (ROOT / root).rglob("*.py")} - {ROOT / root}
        modules = {path for path in (ROOT / root).glob("*.py") if path.name not in UNDRAWN}
        found |= {f"{path.relative_to(ROOT)}/" for path in packages}
        found |= {str(path.relative_to(ROOT)) for path in modules}
    return found - SMALL


def test_every_part_has_a_sentence_and_every_sentence_a_part() -> None:
    assert {path for path, _ in TABLE} >= parts()
    described = {path for path, words in TABLE if words.endswith(".")}
    assert described == parts()


def test_the_drawing_shows_the_parts_of_the_table() -> None:
    drawn = set(re.findall(r"[a-z_]+(?:/|\.py)", DRAWING))
    named = {re.findall(r"[a-z_]+(?:/|\.py)", part)[-1] for part in parts()}
    assert drawn - {"http_sidecar/"} == named


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(r"`((?:comfy_mcp|http_sidecar|docs|tests)/[\w/.-]*)`", PAGE)
    assert len(named) > 30
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_functions_of_the_walk_exist_and_are_few() -> None:
    walk = re.findall(r"`([a-z_]+/[\w/]+)\.py:([\w.]+)`", PAGE)
    assert 0 < len(walk) <= MOST_FUNCTIONS
    for file, function in walk:
        module = importlib.import_module("comfy_mcp." + file.replace("/", "."))
        assert callable(reduce(getattr, function.split("."), module)), f"{file}.py:{function}"


def test_the_decisions_are_numbered_without_gaps_and_titled_alike() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [path.name[:4] for path in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    for path in pages:
        title = path.read_text(encoding="utf-8").splitlines()[0]
        assert re.fullmatch(rf"# {path.name[:4]} [A-Z].*[^.]", title), title
