"""A connection to PostgreSQL: how its transactions begin and end, and how long they may take."""

import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import TransactionStatus

from comfy_mcp.store.connection import AnyRow, Connection, Dialect, Plan
from comfy_mcp.store.postgresql.compiled import SQL

POSTGRESQL = Dialect(name="postgresql", place="%%(%s)s", parameter=re.compile(r"%\((\w+)\)s"), known=SQL)

BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
STORE_LOCK = "pg_advisory_xact_lock(1668246886, hashtext(current_schema()))"
"""One transaction writes at a time, as in SQLite (docs/decisions/0037)."""

BEGIN_WRITING = f"BEGIN; SELECT {STORE_LOCK}"

T = TypeVar("T")


class Lost(psycopg.OperationalError):
    """The transaction was rolled back where a COMMIT was expected."""


class _Number(Dumper):
    """The server takes the type from the column. Otherwise one statement is several to it, by the size of
    its numbers."""

    oid = 0

    def dump(self, obj: Any) -> bytes:
        return str(obj).encode()


class ServerConnection(Connection):
    """`notify`: a channel on which a transaction that appended events says so at its end."""

    dialect = POSTGRESQL

    def __init__(self, driver_connection: "psycopg.Connection[Any]", *, begin: str, notify: str = "") -> None:
        driver_connection.adapters.register_dumper(int, _Number)
        super().__init__(driver_connection, begin=begin)
        self._end = f'NOTIFY "{notify}"; COMMIT' if notify else "COMMIT"
        self.pid = driver_connection.info.backend_pid
        """Of the server's process."""
        self.since: float | None = None
        """When the running transaction began, monotonic seconds."""

    @property
    def is_lost(self) -> bool:
        return bool(self.driver_connection.closed)

    @property
    def in_transaction(self) -> bool:
        status = self.driver_connection.pgconn.transaction_status
        return status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)

    def _new_row(self, plan: Plan, rows: list[AnyRow]) -> int:
        return int(rows[0][0]) if plan.text.endswith(" RETURNING seq") else 0

    def begin(self) -> None:
        self.since = monotonic()
        try:
            super().begin()
        except BaseException:
            self.since = None
            if self.in_transaction:  # it began, and waited for the lock in vain
                self._cursor.execute("ROLLBACK")
            raise

    def finish(self, work: Callable[[Connection], T]) -> T:
        try:
            return super().finish(work)
        finally:
            self.since = None

    def _commit(self) -> None:
        """A transaction in which a statement failed would be rolled back without an error."""
        self._cursor.execute(self._end if self.notes.appended else "COMMIT")
        while self._cursor.nextset():
            pass
        if self._cursor.statusmessage != "COMMIT":
            raise Lost("the transaction was rolled back")

    def cut(self) -> None:
        """From any thread: whoever waits for the server's answer gets an error. A network that swallows what
        is sent gives none by itself."""
        with (
            suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(self.driver_connection.fileno())) as end,
        ):
            end.shutdown(socket.SHUT_RDWR)
