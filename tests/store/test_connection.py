"""What the driver gets of a statement."""

import re

import pytest

from comfy_mcp.store import chains, compiled, event_log, holds, reads
from comfy_mcp.store.connection import KEPT, SQLITE, Pages, Statement

FIXED = [each for each in vars(holds).values() if isinstance(each, Statement)]
PARAMETER = re.compile(r"LIMIT :\w+")


@pytest.mark.parametrize("statement", [chains._CHILDREN, chains._READY, event_log._AFTER, reads._RUN_ORDER])
def test_a_limit_is_written_out_where_a_parameter_would_be_compiled_at_each_use(statement: Statement) -> None:
    texts = [statement.plan({"count": count, "b_window": 1000}).text for count in (5, 7, 5)]
    assert texts[0] == texts[2] != texts[1]
    assert "LIMIT 5" in texts[0]
    assert "LIMIT 7" in texts[1]
    assert not PARAMETER.search("".join(texts))


def test_a_limit_that_is_always_the_same_needs_no_value() -> None:
    assert FIXED
    assert not any(PARAMETER.search(statement.plan({}).text) for statement in FIXED)
    assert any(PARAMETER.search(text) for text, _ in compiled.SQL.values())  # as they are kept


def test_limits_that_clients_choose_fill_no_memory() -> None:
    pages: Pages = reads.PAGES
    statement = pages.statement()
    for most in range(2 * KEPT):
        assert f"LIMIT {most} " in statement.plan({"b_limit": most}).text
    assert len(statement._plans[SQLITE.name].of) == KEPT
