"""The thread that listens for what other processes commit, and cuts connections that get no answer.

NOTIFY only says "look again". Whoever misses one looks all the same, LOOK_AGAIN_S later.
"""

import select
import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import psycopg
import structlog
from psycopg.pq.abc import PGconn

from comfy_mcp.store.postgresql.connection import ServerConnection

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 1.0
"""How late a process learns of a commit whose NOTIFY it did not get."""

CONNECT_AGAIN_S = 1.0
WAIT_S = 0.25
"""How late it learns that it is closed."""


class Wakeups:
    def __init__(
        self,
        connect: Callable[[], "psycopg.Connection[Any]"],
        channel: str,
        *,
        connections: Callable[[], Iterable[ServerConnection]],
        limit_s: float,
    ) -> None:
        """A transaction of `connections` that takes longer than `limit_s` is cut off."""
        self._connect = connect
        self._channel = channel
        self._connections = connections
        self._limit_s = limit_s
        self._closed = threading.Event()
        self.version = 0
        """Changes some time after each commit of another process that appended events."""
        self.tell: Callable[[], None] = lambda: None
        """Called here when it has changed."""
        self.listens = False
        self._thread = threading.Thread(target=self._run, name="store-wakeups", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._listen()
            except Exception as error:  # nobody would notice that this thread has ended
                defect = not isinstance(error, psycopg.Error)
                log.warning("store_wakeups_lost", error=type(error).__name__, exc_info=defect)
                self.listens = False
                self._look_again()
                self._closed.wait(CONNECT_AGAIN_S)

    def _listen(self) -> None:
        with self._connect() as connection:
            connection.execute(f'LISTEN "{self._channel}"')
            self._changed()  # before it listened
            notices = select.poll()
            notices.register(connection.fileno(), select.POLLIN)
            self.listens = True
            looked = monotonic()
            while not self._closed.is_set():
                if notices.poll(min(LOOK_AGAIN_S, WAIT_S) * 1000):
                    self._hear(connection.pgconn)
                if monotonic() - looked >= LOOK_AGAIN_S:
                    looked = monotonic()
                    self._look_again()

    def _hear(self, server: PGconn) -> None:
        """psycopg's `notifies` takes five times as long for a notice."""
        server.consume_input()
        pids = set()
        while (notice := server.notifies()) is not None:
            pids.add(notice.be_pid)
        if pids - {each.pid for each in self._connections()}:
            self._changed()

    def _changed(self) -> None:
        self.version += 1
        self.tell()

    def _look_again(self) -> None:
        self._changed()
        now = monotonic()
        for connection in self._connections():
            since = connection.since
            if since is not None and now - since > self._limit_s:
                log.warning("store_connection_cut", after_s=round(now - since, 1))
                connection.cut()
