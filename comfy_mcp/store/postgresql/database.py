"""Opening the store in a PostgreSQL database: the connection, the schema, who may migrate it."""

import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakSet

from comfy_mcp.settings import StoreGroup
from comfy_mcp.settings.names import misconfigured
from comfy_mcp.store import database
from comfy_mcp.store.database import StoreInfo

try:
    import psycopg
    from psycopg import conninfo
except ImportError:
    raise misconfigured(
        "COMFY_BRIDGE_STORE names a PostgreSQL database, and its driver is not installed.",
        'Run `pip install "comfy-mcp-bridge[postgresql]"`.',
    ) from None

from comfy_mcp.store.connection import Connection
from comfy_mcp.store.postgresql.compiled import HEAD, TABLES
from comfy_mcp.store.postgresql.connection import (
    BEGIN_READING,
    BEGIN_WRITING,
    STORE_LOCK,
    ServerConnection,
)
from comfy_mcp.store.postgresql.faults import Faults
from comfy_mcp.store.postgresql.wakeups import Wakeups
from comfy_mcp.store.sqlite.faults import translated
from comfy_mcp.store.sqlite.filesystem import prepare_folder

CONNECT_S = 5
"""Longest wait for the server to answer a new connection."""

MIGRATE_S = 600
"""How long a process waits while another one migrates the store."""

READ_S = 60
"""Longest statement."""

KEEPALIVE = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A server that is gone without a word is noticed after these seconds, and (the last) milliseconds."""


class ServerDatabase:
    """An open database. Connections are opened by the threads that use them."""

    loop_reader = None
    loop_writer = None
    version_is_exact = False

    def __init__(self, server: "_Server", info: StoreInfo, channel: str) -> None:
        self._server = server
        self._channel = channel
        self._connections: WeakSet[ServerConnection] = WeakSet()
        self._lock = threading.Lock()
        self.info = info
        self.translated = server.faults.translated
        self.met_within = server.faults.met_within
        self._wakeups = Wakeups(
            server.connect,
            channel,
            connections=self._open_ones,
            limit_s=READ_S + server.busy_s + CONNECT_S,
        )

    def reader(self) -> Connection:
        return self._keep(ServerConnection(self._server.connect(), begin=BEGIN_READING))

    def writer(self) -> Connection:
        return self._keep(ServerConnection(self._server.connect(), begin=BEGIN_WRITING, notify=self._channel))

    def _keep(self, connection: ServerConnection) -> ServerConnection:
        with self._lock:
            self._connections.add(connection)
        return connection

    def _open_ones(self) -> list[ServerConnection]:
        with self._lock:
            return list(self._connections)

    def check_identity(self) -> None:
        """A server is asked under its name: whatever answers is the store."""

    check_identity_lately = check_identity

    def data_version(self) -> int:
        return self._wakeups.version

    def on_change(self, tell: Callable[[], None]) -> bool:
        self._wakeups.tell = tell
        return True

    def sizes(self) -> dict[str, int]:
        with self.translated(), self._server.connect() as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return {"database": row[0] if row else 0}

    def checkpoint(self) -> None:
        """The server does it."""

    def close(self) -> None:
        self._wakeups.close()


def open_server(settings: StoreGroup, url: str) -> ServerDatabase:
    """See `open_database`."""
    server = _Server(url)
    with translated(settings.store_path):
        prepare_folder(settings.store_path)
    with server.faults.translated(), contextlib.closing(server.connect()) as connection:
        version = connection.info.server_version
        channel = _one(connection, "SELECT 'comfy_bridge.' || coalesce(current_schema(), '')")
        synchronous = _one(connection, "SHOW synchronous_commit")
        if _revision(connection, server.where) != HEAD:
            _bring_to_head(server)
    info = StoreInfo(
        where=server.where,
        path=settings.store_path,
        driver="psycopg",
        version=f"PostgreSQL {version // 10_000}.{version % 10_000}",
        journal_mode="wal",
        synchronous=str(synchronous),
        schema_revision=HEAD,
    )
    return ServerDatabase(server, info, channel)


class _Server:
    """Where the database is, and how it is connected to."""

    def __init__(self, url: str) -> None:
        try:
            given = conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError:  # its text may show the URL
            raise misconfigured(
                "COMFY_BRIDGE_STORE is not a valid URL.",
                "Use `postgresql://USER:PASSWORD@HOST/DATABASE`, with what is special in them %-encoded.",
            ) from None
        self.busy_s = database.BUSY_S
        self._conninfo = conninfo.make_conninfo(
            url,
            **({"connect_timeout": CONNECT_S} | KEEPALIVE | {"application_name": "comfy-bridge"} | given),
        )
        port, name = given.get("port"), given.get("dbname") or given.get("user") or ""
        self.where = f"postgresql://{given.get('host') or ''}{f':{port}' if port else ''}/{name}"
        self.faults = Faults(self.where)

    def connect(self) -> "psycopg.Connection[Any]":
        """Only our own BEGIN starts a transaction. Who stops within one, holding the lock, is cut off before
        the others give up waiting for it."""
        connection = psycopg.connect(self._conninfo, autocommit=True)
        busy_ms = round(self.busy_s * 1000)
        try:
            connection.execute(
                f"SET lock_timeout = {busy_ms}; SET statement_timeout = {READ_S * 1000}; "
                f"SET idle_in_transaction_session_timeout = {busy_ms // 2}"
            )
        except BaseException:
            connection.close()
            raise
        return connection


def _one(connection: "psycopg.Connection[Any]", text: str) -> Any:
    row = connection.execute(text).fetchone()
    return None if row is None else row[0]


def _revision(connection: "psycopg.Connection[Any]", where: str) -> str | None:
    """None where there is no schema yet. Raises StoreFault for one that is newer."""
    if _one(connection, "SELECT to_regclass('alembic_version')") is None:
        return None
    revision = _one(connection, "SELECT version_num FROM alembic_version")
    if revision not in {None, HEAD}:
        from comfy_mcp.store.migrations import run

        run.require_known(revision, where, "COMFY_BRIDGE_STORE to another database")
    return None if revision is None else str(revision)


def _bring_to_head(server: _Server) -> None:
    """Create or migrate, all of it or nothing, while no other process writes."""

    def connect() -> "psycopg.Connection[Any]":
        connection = server.connect()
        connection.execute(
            f"SET lock_timeout = {MIGRATE_S * 1000}; SET statement_timeout = {MIGRATE_S * 1000}"
        )
        return connection

    with contextlib.closing(connect()) as connection:
        writer = ServerConnection(connection, begin=BEGIN_WRITING)
        is_there = writer.within(partial(_create_if_empty, connection, server.where))
    if not is_there:
        return
    from comfy_mcp.store.migrations import run

    def migrating() -> "psycopg.Connection[Any]":
        connection = connect()
        connection.autocommit = False
        return connection

    run.upgrade_server(migrating, f"SELECT {STORE_LOCK}")


def _create_if_empty(connection: "psycopg.Connection[Any]", where: str, writer: Connection) -> bool:
    """Whether there is an older schema instead."""
    revision = _revision(connection, where)
    if revision is not None:
        return revision != HEAD
    for text in TABLES:
        connection.execute(text)
    connection.execute("INSERT INTO alembic_version VALUES (%s)", [HEAD])
    return False
