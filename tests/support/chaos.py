"""Faults inside a process, put in from outside the shipped code before it starts.

`inject({...})` takes any of
- `"at"`: `{"target": "module:Class.method", "when": "before", "nth": 1, "signal": "KILL"}`: the process
  signals itself at the n-th call, `before` or `after` it;
- `"line"`: `{"files": ["comfy_mcp/store/…"], "nth": 100}`: at the n-th line that it runs in these files;
- `"clock"`: a file with one signed 64-bit number, the milliseconds that the wall clock is wrong by at this
  moment, for Python and for SQLite alike. The monotonic clock stays right.
"""

import functools
import importlib
import inspect
import mmap
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_OFFSET = struct.Struct("q")


def inject(faults: dict[str, Any]) -> None:
    if "at" in faults:
        _signal_at(**faults["at"])
    if "line" in faults:
        _signal_at_line(**faults["line"])
    if "clock" in faults:
        _bend_clock(Path(faults["clock"]))


class BentClock:
    """The harness's side of `"clock"`: every process that maps the file is wrong by the same amount."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.jump(0)

    def jump(self, milliseconds: int) -> None:
        if not self.path.exists():
            self.path.write_bytes(_OFFSET.pack(0))
        with self.path.open("r+b") as file:
            file.write(_OFFSET.pack(milliseconds))


def _countdown(nth: int, name: str) -> Callable[[], None]:
    """Signals this process at the n-th call. Callable from any thread."""
    left = iter(range(nth - 1, -1, -1))
    number = signal.Signals[f"SIG{name}"]

    def count() -> None:
        if next(left, -1) == 0:
            os.kill(os.getpid(), number)

    return count


def _signal_at(*, target: str, when: str, nth: int, signal: str = "KILL") -> None:
    module_name, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, importlib.import_module(module_name))
    original = getattr(owner, name)
    count = _countdown(nth, signal)

    def around() -> Iterator[None]:
        if when == "before":
            count()
        yield
        if when == "after":
            count()

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            steps = around()
            next(steps)
            result = await original(*args, **kwargs)
            next(steps, None)
            return result
    else:

        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            steps = around()
            next(steps)
            result = original(*args, **kwargs)
            next(steps, None)
            return result

    setattr(owner, name, wrapped)


def _signal_at_line(*, files: list[str], nth: int, signal: str = "KILL") -> None:
    count = _countdown(nth, signal)
    wanted: dict[str, bool] = {}

    def by_line(_frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            count()
        return by_line

    def by_call(frame: FrameType, _event: str, _argument: Any) -> Any:
        name = frame.f_code.co_filename
        if name not in wanted:
            wanted[name] = any(part in name for part in files)
        return by_line if wanted[name] else None

    threading.settrace(by_call)
    sys.settrace(by_call)


def _bend_clock(path: Path) -> None:
    with path.open("rb") as file:
        shared = mmap.mmap(file.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)
    real_ns = time.time_ns

    def wrong_by_ms() -> int:
        return int(_OFFSET.unpack(shared[:])[0])

    time.time_ns = lambda: real_ns() + wrong_by_ms() * 1_000_000
    time.time = lambda: time.time_ns() / 1e9
    _bend_sqlite(lambda: time.time_ns() // 1_000_000)


def _bend_sqlite(now_ms: Callable[[], int]) -> None:
    """The database's clock is SQLite's own: its expression becomes a function of ours."""
    from sqlalchemy.ext.compiler import compiles

    from comfy_mcp.store import database, schema

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
