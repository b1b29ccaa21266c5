"""A wall clock that is wrong, and a store that refuses, while the processes run that use them.

The harness writes a number into a file, the processes have it mapped: it counts from the next look on.
"""

import mmap
import struct
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

_NUMBER = struct.Struct("q")


class SharedNumber:
    """The harness's side: one signed 64-bit number, 0 at first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(_NUMBER.pack(0))

    def set(self, number: int) -> None:
        with self.path.open("r+b") as file:
            file.write(_NUMBER.pack(number))


class Mood(IntEnum):
    """What SQLite does at the next transaction. Its own switches, so that its own result codes come."""

    GOOD = 0
    FULL = 1  # no page more than there are: SQLITE_FULL, in the middle of a transaction perhaps
    READ_ONLY = 2  # SQLITE_READONLY


def bend_clock(path: Path) -> None:
    """The wall clock is wrong by the file's milliseconds, for Python and for SQLite alike. The monotonic
    clock stays right."""
    wrong_by_ms = _reader(path)
    real_ns = time.time_ns
    time.time_ns = lambda: real_ns() + wrong_by_ms() * 1_000_000
    time.time = lambda: time.time_ns() / 1e9
    _bend_sqlite(lambda: time.time_ns() // 1_000_000)


def follow_mood(path: Path) -> None:
    """Each transaction of the store, reads too, begins with a look at the mood."""
    from comfy_mcp.store.connection import Connection

    mood_now = _reader(path)
    begin = Connection.begin
    moods: WeakKeyDictionary[Connection, Mood] = WeakKeyDictionary()

    def begin_in_mood(connection: Connection) -> None:
        mood = Mood(mood_now())
        if connection.dialect.name == "sqlite" and moods.get(connection, Mood.GOOD) != mood:
            moods[connection] = mood
            # SQLite takes a limit below the present size as the present size.
            pages = 1 if mood is Mood.FULL else 2**30
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
            connection.exec_driver_sql(f"PRAGMA query_only={mood is Mood.READ_ONLY:d}")
        begin(connection)

    patched: Any = Connection
    patched.begin = begin_in_mood


def _reader(path: Path) -> Callable[[], int]:
    with path.open("rb") as file:
        shared = mmap.mmap(file.fileno(), _NUMBER.size, access=mmap.ACCESS_READ)
    return lambda: int(_NUMBER.unpack(shared[:])[0])


def _bend_sqlite(now_ms: Callable[[], int]) -> None:
    """The database's clock is SQLite's own: its expression becomes a function of ours."""
    from sqlalchemy.ext.compiler import compiles

    from comfy_mcp.store import compiled, schema
    from comfy_mcp.store.sqlite import database

    compiled.SQL.clear()  # so that every statement is compiled here, with this clock

    @compiles(schema.now_ms, "sqlite")
    def bent(_element: Any, _compiler: Any, **_options: Any) -> str:
        return "bent_now_ms()"

    driver: Any = database._Driver
    connect = driver.connect

    def connected(self: Any) -> Any:
        connection = connect(self)
        connection.create_function("bent_now_ms", 0, now_ms)
        return connection

    driver.connect = connected
