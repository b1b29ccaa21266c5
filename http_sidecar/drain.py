"""The state of a process that is about to end, and the requests it still answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Drain:
    """Whether this process is shutting down: submits are refused, and streams send a last frame and end."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._active = 0
        self._limits: set[asyncio.Timeout] = set()

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    def begin(self) -> None:
        self._begun.set()
        for limit in list(self._limits):
            limit.reschedule(asyncio.get_running_loop().time())

    async def wait(self) -> None:
        """Until it begins. A stream waits for this beside its events."""
        await self._begun.wait()

    @contextlib.asynccontextmanager
    async def ends(self) -> AsyncIterator[None]:
        """Raises TimeoutError as soon as it begins: for a wait that has something to answer then."""
        async with asyncio.timeout(0 if self.begun else None) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)

    def enter(self) -> None:
        """A request is being answered, until `leave`; a stream is one for as long as it is open."""
        self._active += 1
        self._idle.clear()

    def leave(self) -> None:
        self._active -= 1
        if not self._active:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Until no request is being answered."""
        await self._idle.wait()
