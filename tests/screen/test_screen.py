"""The pieces that the page and the MCP App share: there, self-contained, and complete over the domain."""

import re
from typing import get_args

import pytest

from comfy_mcp.domain.events import FailureKind
from comfy_mcp.domain.job import ShownStatus
from comfy_mcp.screen import NAMES, asset

ELEMENTS = asset("elements.js")


def test_what_is_named_is_there_and_nothing_else() -> None:
    assert {"elements.js", "screen.css", "view.js", "view.css"} <= NAMES
    assert all(asset(name) for name in NAMES)
    for name in ("nothing.js", "../__init__.py", ""):
        with pytest.raises(KeyError):
            asset(name)


def test_the_elements_need_nothing_and_never_make_markup_of_a_text() -> None:
    assert re.findall(r"\b(?:import|fetch|postMessage|EventSource|WebSocket)\b\s*[({\"]", ELEMENTS) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", ELEMENTS) == []


def test_the_look_loads_nothing() -> None:
    assert re.findall(r"url\(|@import", asset("screen.css")) == []


@pytest.mark.parametrize("table", ["FAILURE_WORDS", "FAILURE_ADVICE"])
def test_every_kind_of_failure_has_words(table: str) -> None:
    assert words(table) == {kind.value for kind in FailureKind}


def test_every_status_has_a_word() -> None:
    assert words("STATUS_WORDS") == set(get_args(ShownStatus))


def words(table: str) -> set[str]:
    body = ELEMENTS.partition(f"export const {table} = {{")[2].partition("};")[0]
    return set(re.findall(r"^\s+(\w+):", body, re.MULTILINE))
