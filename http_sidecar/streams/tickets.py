"""How a browser proves who it is to a WebSocket, where it can't send headers: a ticket, or a subprotocol.

A ticket is had by an ordinary request with the key, and is good for one connection within a short time, in
the process that gave it. A subprotocol carries the key itself; it never stands in a URL or a log.
"""

import base64
from collections.abc import Mapping

from aiohttp import web

from comfy_mcp.domain.access import Right
from comfy_mcp.operations.context import require_right
from comfy_mcp.operations.shapes import Part
from http_sidecar.app_state import CALLER
from http_sidecar.door.tickets import Tickets
from http_sidecar.routes import V1

PATH = f"{V1}/stream/ticket"
PROTOCOL = "comfy-bridge.v1"
"""What the server speaks. A client that offers subprotocols offers this one too, and it is chosen."""

KEY_PREFIX = "comfy-bridge.key."
"""Followed by the key in base64url without padding: a key may have characters that a subprotocol may not."""

TICKET_PREFIX = "comfy-bridge.ticket."
TTL_S = 30.0
"""How long a ticket may be used: a page asks for one right before it connects."""

MAX_OFFERS = 8


class TicketResult(Part):
    """`expiresIn` is seconds. Use it once: `/v1/comfyui/stream?ticket=…`."""

    ticket: str
    expires_in: float


TICKETS = web.AppKey("tickets", Tickets)


async def issue_ticket(request: web.Request) -> web.Response:
    """For whoever the key belongs to, with the rights it has now."""
    app, caller = request.app, request[CALLER]
    require_right(caller, Right.READ, "The stream")
    result = TicketResult(ticket=app[TICKETS].issue(caller), expires_in=TTL_S)
    return web.Response(
        text=result.model_dump_json(), content_type="application/json", headers={"Cache-Control": "no-store"}
    )


def offered_protocols(headers: Mapping[str, str]) -> list[str]:
    offered = headers.get("Sec-WebSocket-Protocol", "")
    return [part for item in offered.split(",") if (part := item.strip())][:MAX_OFFERS]


def offered_keys(headers: Mapping[str, str]) -> list[str]:
    """The API keys among the subprotocols: base64url behind KEY_PREFIX, or bare."""
    keys: list[str] = []
    for offered in offered_protocols(headers):
        if offered.startswith(KEY_PREFIX):
            decoded = _decoded(offered.removeprefix(KEY_PREFIX))
            keys += [decoded] if decoded is not None else []
        elif offered != PROTOCOL and not offered.startswith(TICKET_PREFIX):
            keys.append(offered)
    return keys


def offered_ticket(request: web.Request) -> str | None:
    """From the query or the subprotocols."""
    named = request.query.get("ticket")
    if named is not None:
        return named
    tickets = [item for item in offered_protocols(request.headers) if item.startswith(TICKET_PREFIX)]
    return tickets[0].removeprefix(TICKET_PREFIX) if tickets else None


def spoken_protocols(headers: Mapping[str, str]) -> tuple[str, ...]:
    """What the handshake may choose from. A browser drops a connection for which none of its offers was
    chosen, and aiohttp then logs all of them, the key among them: so there is always one to choose."""
    offered = offered_protocols(headers)
    return (PROTOCOL,) if PROTOCOL in offered else tuple(offered)


def _decoded(text: str) -> str | None:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:  # no base64, no ASCII even, or no UTF-8 in it
        return None
