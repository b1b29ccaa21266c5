"""Statements that are sent together: in order, nothing after an error, and a connection that goes on."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from comfy_mcp.store.postgresql import statements as module
from comfy_mcp.store.postgresql.statements import Statements, columns

ADD, ALL = "INSERT INTO t VALUES (%(n)s)", "SELECT n, text FROM t ORDER BY n"


@pytest.fixture
def statements(url: str) -> Iterator[Statements]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (n BIGINT PRIMARY KEY, text TEXT DEFAULT '%', yes BOOLEAN)")
        yield Statements(connection)


def rows(statements: Statements, text: str = ALL, **values: Any) -> list[Any]:
    return statements.rows(statements.run(text, values), tuple)


def test_what_is_sent_is_run_in_order_before_the_next_that_is_run(statements: Statements) -> None:
    for number in range(3):
        statements.send(ADD, {"n": number})
    assert rows(statements) == [(0, "%"), (1, "%"), (2, "%")]
    answer = statements.run(
        "UPDATE t SET yes = %(yes)s WHERE text = '%%' AND n < %(n)s", {"n": 2, "yes": True}
    )
    assert (answer.command_tuples, columns(answer)) == (2, [])
    assert columns(statements.run(ALL)) == [("n",), ("text",)]
    assert rows(statements, "SELECT yes, 1.5::FLOAT, NULL FROM t WHERE n = %(n)s", n=0) == [(True, 1.5, None)]


def test_nothing_after_an_error_is_run_and_the_connection_goes_on(statements: Statements) -> None:
    statements.send("BEGIN")
    statements.send(ADD, {"n": 1})
    statements.send(ADD, {"n": 1})
    statements.send(
        "INSERT INTO t (n, text) VALUES (%(n)s, 'not prepared, for it was not reached')", {"n": 2}
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        statements.run(ALL)
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        statements.run(ALL)
    statements.run("ROLLBACK")
    statements.send(
        "INSERT INTO t (n, text) VALUES (%(n)s, 'not prepared, for it was not reached')", {"n": 2}
    )
    assert [number for number, _ in rows(statements)] == [2]
    assert statements.answers() == []


def test_a_statement_that_is_none_is_refused_each_time(statements: Statements) -> None:
    for _ in range(2):
        with pytest.raises(psycopg.errors.SyntaxError):
            statements.run("this is no SQL")
    assert rows(statements) == []


def test_text_that_the_server_would_cut_is_refused(statements: Statements) -> None:
    with pytest.raises(psycopg.DataError, match="NUL"):
        statements.run("SELECT %(text)s", {"text": "a\0b"})


def test_more_than_any_buffer_holds_goes_through_both_ways(statements: Statements) -> None:
    large = "x" * 3_000_000
    for number in range(5):
        statements.send("INSERT INTO t VALUES (%(n)s, %(text)s)", {"n": number, "text": large})
        statements.send("SELECT text FROM t")
    assert [len(text) for _, text in rows(statements)] == [3_000_000] * 5


def test_what_was_prepared_is_given_up_when_it_is_too_much(
    statements: Statements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    for number in range(9):
        statements.forget()
        assert rows(statements, f"SELECT {number}") == [(number,)]
    ((kept,),) = rows(statements, "SELECT count(*) FROM pg_prepared_statements")
    assert kept <= 4


def test_a_connection_that_is_lost_says_so(statements: Statements) -> None:
    with pytest.raises(psycopg.OperationalError):
        statements.run("SELECT pg_terminate_backend(pg_backend_pid())")
    assert statements.connection.closed
    with pytest.raises(psycopg.OperationalError):
        statements.run(ALL)


def test_that_the_server_goes_is_noticed_before_the_next_statement(statements: Statements, url: str) -> None:
    assert not statements.was_told
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [statements.connection.info.backend_pid])
    while not statements.was_told:
        pass
