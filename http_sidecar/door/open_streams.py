"""The streams that are open in this process, and how one of Server-Sent Events begins."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Literal, get_args

from aiohttp import web

from comfy_mcp.metrics import Metrics
from comfy_mcp.shares import Shares
from http_sidecar.door.rate_limit import BUCKET

StreamKind = Literal["websocket", "sse"]
KINDS: tuple[StreamKind, ...] = get_args(StreamKind)


class OpenStreams:
    """`open` counts what is open now by kind."""

    def __init__(self, metrics: Metrics, *, limit: int) -> None:
        self.open: Counter[StreamKind] = Counter()
        self._metrics = metrics
        self._places = Shares(
            limit, "streams", next_step="Close some, or follow all workflows with one WebSocket."
        )
        for kind in KINDS:
            metrics.count_streams(kind, partial(self.open.__getitem__, kind))

    def was_slow(self, kind: StreamKind) -> None:
        """One was closed because its client reads too slowly."""
        self._metrics.stream_cut_off(kind)

    @contextlib.contextmanager
    def entered(self, request: web.Request, kind: StreamKind) -> Iterator[None]:
        """One more while the context is open. Raises LimitExceeded."""
        with self._places.place(request[BUCKET]):
            self.open[kind] += 1
            try:
                yield
            finally:
                self.open[kind] -= 1


OPEN_STREAMS = web.AppKey("open_streams", OpenStreams)


@contextlib.asynccontextmanager
async def server_sent_events(request: web.Request) -> AsyncIterator[web.StreamResponse]:
    """An answer whose headers have been sent; it counts as open within the context. Raises LimitExceeded."""
    with request.app[OPEN_STREAMS].entered(request, "sse"):
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # nginx would hold the events back
            }
        )
        await response.prepare(request)
        yield response
