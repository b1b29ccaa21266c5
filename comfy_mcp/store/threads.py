"""The threads of the store: one that writes, a few that read.

A call puts work into an inbox and awaits a future of its loop. Cancelling the await does not reach the
thread: the work still commits or rolls back as a whole.

The writer takes whatever waits (at most MAX_BATCH) into one transaction, each piece in a savepoint of its
own, so that one commit serves many callers and one caller's error undoes only its own piece.

Bound and overflow: at most MAX_WAITING pieces per inbox; further callers wait, in order, before theirs is
handed over (cancelled there, nothing was begun).
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, TypeVar, cast

from comfy_mcp.domain.errors import ErrorCode, StoreFault
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.store.connection import Connection, Notes

MAX_BATCH = 64
MAX_WAITING = 1024

T = TypeVar("T")
Work = Callable[[Connection], T]


@dataclass(slots=True, eq=False)
class _Piece:
    work: Work[Any]
    future: asyncio.Future[Any] | None
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Held:
    """A thread's connection, opened when it is needed."""

    connect: Callable[[], Connection]
    connection: Connection | None = None

    def begin(self) -> Connection:
        """A connection with a transaction. A server may have ended the last one while nobody used it."""
        if self.connection is not None:
            try:
                self.connection.begin()
            except Exception:
                if not self.connection.is_lost:
                    raise
                self.close()
            else:
                return self.connection
        self.connection = self.connect()
        self.connection.begin()
        return self.connection

    def close(self) -> None:
        if self.connection is not None:
            connection, self.connection = self.connection, None
            connection.close()


class Worker:
    """Threads with a connection each over one inbox. One thread and `batch` > 1 makes it a writer."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        translated: Callable[[], AbstractContextManager[None]],
        *,
        name: str,
        threads: int = 1,
        batch: int = 1,
        before: Callable[[], None] = lambda: None,
        on_commit: Callable[[Sequence[StoredEvent]], None] = lambda _appended: None,
        on_done: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """`translated` raises StoreFault for the database's errors. `before` runs ahead of each transaction
        and may raise StoreFault; `on_commit` is called on the loop after each transaction, with the events
        that it appended; `on_done` is called with the seconds that each caller waited."""
        self._connect = connect
        self._translated = translated
        self._batch = batch
        self._before = before
        self._on_commit = on_commit
        self._on_done = on_done
        self._loop = asyncio.get_running_loop()
        self._inbox: SimpleQueue[_Piece | None] = SimpleQueue()
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._closed = False
        self._pending = 0
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        self._ended = self._loop.create_future()
        self._running = threads
        for thread in self._threads:
            thread.start()

    async def do(self, work: Work[T]) -> T:
        """Run `work` in a transaction. Raises what it raises; database errors come as StoreFault."""
        asked = perf_counter()
        self._pending += 1
        try:
            await self._room.acquire()
            try:
                self.check_open()
            except StoreFault:
                self._room.release()
                raise
        except BaseException:
            self._pending -= 1
            raise
        future: asyncio.Future[Any] = self._loop.create_future()
        self._inbox.put(_Piece(work, future))
        try:
            return cast("T", await future)
        finally:
            self._on_done(perf_counter() - asked)

    @property
    def idle(self) -> bool:
        """Nothing was asked for that has not been answered."""
        return not self._pending

    def check_open(self) -> None:
        """Raises StoreFault (`shutting_down`) once closed."""
        if self._closed:
            raise StoreFault(
                "The store is closed.", next_step="Start the program again.", code=ErrorCode.SHUTTING_DOWN
            )

    def post(self, work: Work[None]) -> None:
        """Run `work` when its turn comes. Nobody waits for its result, so it must not raise."""
        if not self._closed:
            self._inbox.put(_Piece(work, None))

    async def close(self) -> None:
        """Finish what was handed over, then end the threads. Idempotent."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._inbox.put(None)
        await asyncio.shield(self._ended)
        for thread in self._threads:
            thread.join()

    # ------------------------------------------------------------------ in the thread

    def _run(self) -> None:
        held = _Held(self._connect)
        last = False
        try:
            while not last and (first := self._inbox.get()) is not None:
                pieces, last = self._more(first)
                left: Notes | None = None
                try:
                    with self._translated():
                        self._before()
                        connection = held.begin()
                        self._commit(connection, pieces)
                        left = connection.notes
                except BaseException as error:  # noqa: BLE001 - each caller gets it; the thread lives on
                    for piece in pieces:
                        piece.error = piece.error or error
                self._call_loop(self._deliver, pieces, left)
                del pieces, first
        finally:
            try:
                held.close()
            finally:
                self._call_loop(self._thread_ended)

    def _more(self, first: _Piece) -> tuple[list[_Piece], bool]:
        """What else waits, and whether the end of the inbox is among it."""
        pieces = [first]
        while len(pieces) < self._batch:
            try:
                piece = self._inbox.get_nowait()
            except Empty:
                break
            if piece is None:
                return pieces, True
            pieces.append(piece)
        return pieces, False

    def _commit(self, connection: Connection, pieces: Sequence[_Piece]) -> None:
        if len(pieces) == 1:
            pieces[0].result = connection.finish(pieces[0].work)
        else:
            connection.finish(lambda _: self._run_each(connection, pieces))

    def _run_each(self, connection: Connection, pieces: Sequence[_Piece]) -> None:
        for piece in pieces:
            appended = connection.notes.appended
            try:
                with self._translated(), connection.savepoint():
                    piece.result = piece.work(connection)
            except Exception as error:  # belongs to that caller alone
                piece.error = error
                connection.notes.appended = appended
                if not connection.in_transaction:
                    raise  # SQLite ended the whole transaction (disk full, I/O error): nobody's is kept

    def _call_loop(self, callback: Callable[..., None], *args: Any) -> None:
        # A loop that is closed has nobody left who waits.
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    # ------------------------------------------------------------------ on the loop

    def _deliver(self, pieces: Sequence[_Piece], committed: Notes | None) -> None:
        for piece in pieces:
            if piece.future is None:
                continue
            self._room.release()
            self._pending -= 1
            if piece.future.done():
                continue  # its caller was cancelled
            if piece.error is None:
                piece.future.set_result(piece.result)
            else:
                piece.future.set_exception(piece.error)
        if committed is not None:
            self._on_commit(committed.appended)

    def _thread_ended(self) -> None:
        self._running -= 1
        if self._running == 0 and not self._ended.done():
            self._ended.set_result(None)
