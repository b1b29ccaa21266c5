"""Transactions on the loop's own thread, for what takes microseconds: a thread would cost as much again.

They never wait. Where somebody else holds the lock nothing is done, and the worker's thread takes over.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.store.connection import Connection
from comfy_mcp.store.sqlite.faults import is_busy, translated
from comfy_mcp.store.threads import Work, Worker

T = TypeVar("T")


class _Busy(Exception):
    """Somebody else holds the lock. Nothing was done."""


class Direct:
    """One connection, used by the loop's thread alone, beside a worker."""

    def __init__(
        self,
        connection: Connection,
        worker: Worker,
        path: Path,
        *,
        in_order: bool = False,
        before: Callable[[], None],
        on_commit: Callable[[Sequence[StoredEvent]], None] = lambda _appended: None,
        on_done: Callable[[float], None],
    ) -> None:
        """`in_order`: while work waits in the worker's thread, all that comes waits behind it. `before`,
        `on_commit` and `on_done` are as the worker's."""
        self._connection = connection
        self._worker = worker
        self._path = path
        self._in_order = in_order
        self._before = before
        self._on_commit = on_commit
        self._on_done = on_done

    async def do(self, work: Work[T]) -> T:
        """Run `work` in a transaction, here or in the thread. Raises what it raises, and StoreFault."""
        done = self.now(work)
        return await self._worker.do(work) if done is None else done[0]

    def now(self, work: Work[T]) -> tuple[T] | None:
        """The same here; None, with nothing done, where the thread has to do it."""
        if self._in_order and not self._worker.idle:
            return None
        self._worker.check_open()
        asked = perf_counter()
        try:
            result = self._here(work)
        except _Busy:
            return None
        except BaseException:
            self._on_done(perf_counter() - asked)
            raise
        self._on_done(perf_counter() - asked)
        self._on_commit(self._connection.notes.appended)
        return (result,)

    def _here(self, work: Work[T]) -> T:
        connection = self._connection
        with translated(self._path):
            self._before()
            try:
                return connection.within(work)
            except Exception as error:
                if is_busy(error):
                    raise _Busy from None
                raise
