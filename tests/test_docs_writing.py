"""docs/writing.md names words that a reader does not use: no text, comment or docstring has them."""

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "writing.md"
CODE = ("comfy_mcp", "http_sidecar", "examples")
DOCUMENTS = ("docs", "examples", "deploy", "bench")
SUFFIXES = {".md", ".html", ".js", ".mjs", ".yml"}


def refused() -> re.Pattern[str]:
    [sentence] = re.findall(r"^A test refuses (.*?)\.$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    words = "|".join(word.replace(" ", r"\s+") for word in re.findall(r"`([\w ]+)`", sentence))
    return re.compile(rf"\b(?:{words})\b(?!-|\s+over\b)", re.IGNORECASE)


def texts_of(source: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each comment and string."""
    with tokenize.open(source) as lines:
        for token in tokenize.generate_tokens(lines.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def places(pattern: re.Pattern[str]) -> list[str]:
    code = [
        (file, line, text)
        for folder in CODE
        for file in sorted((ROOT / folder).rglob("*.py"))
        for line, text in texts_of(file)
    ]
    named = [file for folder in DOCUMENTS for file in sorted((ROOT / folder).rglob("*"))]
    assets = [file for folder in CODE[:2] for file in sorted((ROOT / folder).rglob("*"))]
    documents = [
        (file, line, text)
        for file in [ROOT / "README.md", ROOT / "CHANGELOG.md", *named, *assets]
        if file.suffix in SUFFIXES and file != PAGE
        for line, text in enumerate(file.read_text("utf-8").splitlines(), start=1)
    ]
    return [
        f"{file.relative_to(ROOT)}:{line}: {found[0]!r}"
        for file, line, text in code + documents
        if (found := pattern.search(text))
    ]


def test_no_text_has_a_word_that_readers_do_not_use() -> None:
    assert places(refused()) == []


@pytest.mark.parametrize("text", ["Nobody is told.", "for so long", "Choices are taken", "a\n    look"])
def test_such_words_are_found(text: str) -> None:
    assert refused().search(text)


@pytest.mark.parametrize("text", ["taken over", "taken\n    over", "a look-up", "shear", "mistaken"])
def test_other_words_are_not(text: str) -> None:
    assert not refused().search(text)
