"""How many files are being sent and received: slow ones leave room for the others."""

import contextlib
from collections import Counter
from collections.abc import Iterator

from aiohttp import web

from comfy_mcp.domain.errors import ErrorCode, LimitExceeded
from http_sidecar.bounds import Bounds
from http_sidecar.door.rate_limit import BUCKET


class Transfers:
    """Those that are open now, by whom they are for."""

    def __init__(self, bounds: Bounds) -> None:
        self._most = bounds.transfers
        self._most_each = bounds.transfers_per_client
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def entered(self, request: web.Request) -> Iterator[None]:
        """One more while the context is open. Raises LimitExceeded."""
        bucket = request[BUCKET]
        if self._open[bucket] >= self._most_each:
            raise _too_many(
                f"You have {self._most_each} uploads and downloads open, the maximum of a client."
            )
        if self._open.total() >= self._most:
            raise _too_many(f"{self._most} uploads and downloads are open, the maximum of this server.")
        self._open[bucket] += 1
        try:
            yield
        finally:
            self._open[bucket] -= 1
            if not self._open[bucket]:
                del self._open[bucket]


TRANSFERS = web.AppKey("transfers", Transfers)


def _too_many(message: str) -> LimitExceeded:
    return LimitExceeded(
        message, next_step="Try again when one of them has ended.", code=ErrorCode.TOO_MANY_STREAMS
    )
