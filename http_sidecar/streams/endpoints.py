"""All that follows workflows as they run: the WebSocket, its tickets, and SSE."""

import time
from collections.abc import AsyncIterator

from aiohttp import web

from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller
from http_sidecar.api_keys import SURFACE, caller_of, identity_of
from http_sidecar.app_state import BRIDGE, DRAIN, IDENTIFIERS, KEY_RING, SETTINGS
from http_sidecar.bounds import BOUNDS
from http_sidecar.door.metrics import METRICS
from http_sidecar.door.open_streams import OPEN_STREAMS, OpenStreams
from http_sidecar.door.tickets import Tickets
from http_sidecar.streams import sse, tickets, websocket
from http_sidecar.streams.event_texts import EventTexts
from http_sidecar.streams.live import LIVE, Live
from http_sidecar.streams.tickets import TICKETS, TTL_S, offered_keys, offered_ticket


def setup(app: web.Application) -> None:
    bridge = app[BRIDGE]
    bounds = app[BOUNDS]
    every = Caller(client=ClientId(app[SETTINGS].client_name), surface=SURFACE)
    app[LIVE] = Live(bridge.feed, EventTexts(bridge.feed), every, buffer=bounds.stream_events)
    app[OPEN_STREAMS] = OpenStreams(app[METRICS], limit=bounds.streams)
    app[TICKETS] = Tickets(ttl_s=TTL_S, clock=time.monotonic)
    app[IDENTIFIERS].append(identify)
    app.cleanup_ctx.append(_handing_out)
    app.router.add_routes(routes())


def routes() -> list[web.RouteDef]:
    return [
        web.get(websocket.PATH, websocket.stream, allow_head=False),
        web.post(tickets.PATH, tickets.issue_ticket),
        web.get(sse.PATH, sse.events, allow_head=False),
        web.get(sse.ALL_PATH, sse.all_events, allow_head=False),
    ]


async def identify(request: web.Request) -> Caller | None:
    """Who opens a WebSocket without a key in a header. Raises StoreFault."""
    if request.path != websocket.PATH:
        return None
    if (ticket := offered_ticket(request)) is not None:
        caller = request.app[TICKETS].redeem(ticket)
        counts = caller is not None and await request.app[KEY_RING].counts(identity_of(caller))
        return caller if counts else None
    for key in offered_keys(request.headers):
        if (identity := await request.app[KEY_RING].identify(key)) is not None:
            return caller_of(identity)
    return None


async def _handing_out(app: web.Application) -> AsyncIterator[None]:
    async with app[LIVE].running(app[DRAIN]):
        yield
