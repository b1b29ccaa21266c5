"""A connection to PostgreSQL: how its transactions begin and end, and how long they may take."""

import os
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from comfy_mcp.store.connection import (
    Connection,
    Dialect,
    Result,
    Statement,
    Values,
    numbered,
    row_type,
)
from comfy_mcp.store.postgresql.compiled import SQL
from comfy_mcp.store.postgresql.statements import Statements, columns

if TYPE_CHECKING:
    from comfy_mcp.store.core import Core

POSTGRESQL = Dialect(name="postgresql", place="%%(%s)s", parameter=re.compile(r"%\((\w+)\)s"), known=SQL)

BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
STORE_LOCK = "pg_advisory_xact_lock(1668246886, hashtext(current_schema()))"
"""One transaction writes at a time, as in SQLite (docs/decisions/0037)."""

BEGIN_WRITING = f"BEGIN; SELECT {STORE_LOCK}"

T = TypeVar("T")

UNUSED_S = 1.0
"""A connection that was not used for this time is tried before it is used."""

_NONE: Values = {}


class Lost(psycopg.OperationalError):
    """The transaction was rolled back where a COMMIT was expected."""


class ServerConnection(Connection):
    """`notify`: a channel on which a transaction that appended events says so at its end."""

    dialect = POSTGRESQL

    def __init__(self, driver_connection: "psycopg.Connection[Any]", *, begin: str, notify: str = "") -> None:
        super().__init__(driver_connection, begin=begin)
        self._statements = Statements(driver_connection)
        self._writes = begin != BEGIN_READING
        self._notify = f'NOTIFY "{notify}"' if notify else ""
        self._used = float("-inf")
        self._committing = False
        """A COMMIT of reads was sent, and its answer was not waited for."""
        self.pid = driver_connection.info.backend_pid
        """Of the server's process."""
        self.since: float | None = None
        """When the running transaction began, monotonic seconds."""

    def execute(self, statement: "Statement | Core", values: Values = _NONE) -> Result:
        plan = (statement if isinstance(statement, Statement) else Statement(statement)).plan(
            values, POSTGRESQL
        )
        answer = self._statements.run(*plan.bound(values))
        if not answer.nfields:
            return Result([], answer.command_tuples or 0)
        if plan.row is None:
            plan.row = row_type(columns(answer))
        rows = self._statements.rows(answer, plan.row)
        return Result(rows, len(rows))

    def append(self, statement: Statement, rows: Sequence[Values]) -> Sequence[int]:
        plan = statement.plan(rows[0], POSTGRESQL, len(rows))
        answer = self._statements.run(plan.text, numbered(rows))
        return [seq for (seq,) in self._statements.rows(answer, tuple)]

    def send(self, statement: Statement, values: Values = _NONE) -> None:
        self._statements.send(*statement.plan(values, POSTGRESQL).bound(values))

    def execute_many(self, statement: Statement, rows: Sequence[Values]) -> None:
        for row in rows:
            self.send(statement, row)

    def exec_driver_sql(self, text: str, values: Sequence[Any] | Values = ()) -> Result:
        self._statements.answers()
        return super().exec_driver_sql(text, values or None)  # type: ignore[arg-type]  # several statements

    @property
    def is_lost(self) -> bool:
        return bool(self.driver_connection.closed)

    @property
    def in_transaction(self) -> bool:
        status = self.driver_connection.pgconn.transaction_status
        return status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)

    def begin(self) -> None:
        """Of reads: with the first of them, unless the server may have ended the connection meanwhile."""
        self.since = monotonic()
        try:
            if self._committing:
                self._committing = False
                self._statements.answers()
            self._statements.forget()
            super().begin()
            if self._writes or self.since - self._used > UNUSED_S or self._statements.was_told:
                self._statements.answers()
        except BaseException:
            self.since = None
            if self.in_transaction:  # it began, and waited for the lock in vain
                self._roll_back()
            raise

    def finish(self, work: Callable[[Connection], T]) -> T:
        try:
            return super().finish(work)
        finally:
            self._used, self.since = monotonic(), None

    def _commit(self) -> None:
        """A transaction in which a statement failed would be rolled back without an error."""
        if self._notify and self.notes.appended:
            self._statements.send(self._notify)
        if not self._writes:
            self._statements.send("COMMIT")
            self._statements.sync()
            self._committing = True
        elif self._statements.run("COMMIT").command_status != b"COMMIT":
            raise Lost("the transaction was rolled back")

    def _roll_back(self) -> None:
        self._drop()
        self._statements.run("ROLLBACK")

    def _undo(self) -> None:
        self._drop()
        super()._undo()

    def _control(self, text: str) -> None:
        for each in text.split("; "):
            self._statements.send(each)

    def _answers(self) -> None:
        self._statements.answers()

    def _drop(self) -> None:
        """What was sent fails or not: it is undone."""
        with suppress(psycopg.Error):
            self._statements.answers()

    def cut(self) -> None:
        """From any thread: whoever waits for the server's answer gets an error. A network that swallows what
        is sent gives none by itself."""
        with (
            suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(self.driver_connection.fileno())) as end,
        ):
            end.shutdown(socket.SHUT_RDWR)
