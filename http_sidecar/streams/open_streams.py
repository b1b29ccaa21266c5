"""The streams that are open in this process: how many, and who may open one."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Literal, get_args

from aiohttp import web

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import Denied, ErrorCode, LimitExceeded
from comfy_mcp.metrics import Metrics
from comfy_mcp.operations.context import require_right
from http_sidecar.app_state import CALLER, SETTINGS
from http_sidecar.door.hosts import origin_allowed
from http_sidecar.streams.live import Live

StreamKind = Literal["websocket", "sse"]
KINDS: tuple[StreamKind, ...] = get_args(StreamKind)


class OpenStreams:
    """`open` counts what is open now by kind."""

    def __init__(self, live: Live, metrics: Metrics, *, limit: int) -> None:
        self.live = live
        self.open: Counter[StreamKind] = Counter()
        self._metrics = metrics
        self._limit = limit
        for kind in KINDS:
            metrics.count_streams(kind, partial(self.open.__getitem__, kind))

    def was_slow(self, kind: StreamKind) -> None:
        """One was closed because its client reads too slowly."""
        self._metrics.stream_cut_off(kind)

    @contextlib.contextmanager
    def entered(self, kind: StreamKind) -> Iterator[None]:
        """One more while the context is open. Raises LimitExceeded."""
        if self.open.total() >= self._limit:
            raise LimitExceeded(
                f"{self._limit} streams are open, the maximum of this server.",
                next_step="Close some, or follow all workflows with one WebSocket.",
                code=ErrorCode.TOO_MANY_STREAMS,
            )
        self.open[kind] += 1
        try:
            yield
        finally:
            self.open[kind] -= 1


OPEN_STREAMS = web.AppKey("open_streams", OpenStreams)


def require_reader(request: web.Request) -> None:
    """Raises Denied for a caller that may not read."""
    require_right(request[CALLER], Right.READ, "A stream")


def require_known_origin(request: web.Request) -> None:
    """Raises Denied. Browsers let any page open a WebSocket anywhere: CORS does not cover it."""
    origin, host = request.headers.get("Origin"), request.headers.get("Host")
    if not origin_allowed(origin, host, request.app[SETTINGS].cors_origins):
        raise Denied(
            "Web pages of this origin may not open a stream.",
            next_step="Add the origin to COMFY_BRIDGE_CORS_ORIGINS.",
        )
