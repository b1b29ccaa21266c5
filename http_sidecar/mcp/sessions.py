"""The MCP sessions (2025-11-25 and older) of each client: the SDK bounds all of them together only."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from comfy_mcp.shares import Shares


class Sessions:
    """`open_now` gives the ids of the sessions that have not ended."""

    def __init__(self, most: int, open_now: Callable[[], Collection[str]]) -> None:
        self._open_now = open_now
        self._clients: dict[str, str] = {}
        self._places = Shares(
            most, "MCP sessions", next_step="End some (DELETE /mcp), or make many calls in one."
        )

    @contextmanager
    def opening(self, client: str) -> Iterator[list[str]]:
        """A request that opens one, whose id is in the list afterwards. Raises LimitExceeded."""
        self._forget_ended()
        self._places.take(client)
        opened: list[str] = []
        try:
            yield opened
        finally:
            if opened:
                self._clients[opened[0]] = client
            else:
                self._places.give_back(client)

    def _forget_ended(self) -> None:
        still_open = self._open_now()
        for session in [each for each in self._clients if each not in still_open]:
            self._places.give_back(self._clients.pop(session))
