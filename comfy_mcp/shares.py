"""What all clients share: a number of places, of which none takes all, and turns to do heavy work.

One rule: who holds some places gets a further one only while it holds fewer than are free. Alone it can hold
half of them, beside another one a third. After N clients that took all they could, 1 of 2^N places is free.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from comfy_mcp.domain.errors import ErrorCode, LimitExceeded


def may_hold_more(held: int, free: int) -> bool:
    """The rule."""
    return held < free


class Shares:
    """`most` places for `what`, by the client that holds them. A client None has all of them to itself."""

    def __init__(
        self,
        most: int,
        what: str,
        *,
        code: ErrorCode = ErrorCode.TOO_MANY_STREAMS,
        next_step: str = "Try again when one of them has ended.",
    ) -> None:
        self._most = most
        self._what = what
        self._code = code
        self._next_step = next_step
        self._held: Counter[str] = Counter()
        self._free = most

    def has_room(self, client: str | None) -> bool:
        return self._free > 0 if client is None else may_hold_more(self._held[client], self._free)

    def take(self, client: str | None) -> None:
        """One place more for the client. Raises LimitExceeded."""
        if not self.has_room(client):
            raise LimitExceeded(self._refusal(client), next_step=self._next_step, code=self._code)
        self._held[client or ""] += 1
        self._free -= 1

    def give_back(self, client: str | None) -> None:
        self._held[client or ""] -= 1
        if not self._held[client or ""]:
            del self._held[client or ""]
        self._free += 1

    @contextmanager
    def place(self, client: str | None) -> Iterator[None]:
        """One place for the time of the context. Raises LimitExceeded."""
        self.take(client)
        try:
            yield
        finally:
            self.give_back(client)

    def _refusal(self, client: str | None) -> str:
        if self._free <= 0 or client is None:
            return f"All places for {self._what} are in use ({self._most})."
        return (
            f"You have {self._held[client]} of the {self._most} places for {self._what}, and {self._free} "
            "are free: no client gets more than are free."
        )


class Turns:
    """Work of which `at_once` pieces run: clients that wait take turns, and each runs its share."""

    def __init__(self, at_once: int = 1) -> None:
        self._running = Shares(at_once, "work at once")
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """Who is next, first. One that was cancelled is passed over when its turn comes."""

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for the client's turn, which lasts as long as the context."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        self._begin()
        try:
            await turn
            yield
        finally:
            if not turn.cancelled():
                self._running.give_back(client)
                self._begin()

    def _begin(self) -> None:
        """Begin one piece of each client where there is room; what else it has waits behind the others."""
        for client in list(self._waiting):
            if self._running.has_room(client):
                waiting = self._waiting.pop(client)
                while waiting:
                    turn = waiting.popleft()
                    if not turn.done():
                        turn.set_result(None)
                        self._running.take(client)
                        break
                if waiting:
                    self._waiting[client] = waiting
