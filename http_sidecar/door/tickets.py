"""Tickets: what lets one request in without a key, once and soon, in the process that gave it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from comfy_mcp.operations.context import Caller

TICKETS_PER_CLIENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Issued:
    caller: Caller
    until: float


class Tickets:
    """Tickets that were given and not used. In memory: at most TICKETS_PER_CLIENT for each client, the oldest
    goes. `clock` is steady seconds."""

    def __init__(self, *, ttl_s: float, clock: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._issued: dict[str, _Issued] = {}

    def issue(self, caller: Caller) -> str:
        self._forget_expired()
        own = [ticket for ticket, issued in self._issued.items() if issued.caller.client == caller.client]
        for ticket in own[: max(0, len(own) - TICKETS_PER_CLIENT + 1)]:
            del self._issued[ticket]
        ticket = secrets.token_urlsafe(32)
        self._issued[ticket] = _Issued(caller=caller, until=self._clock() + self._ttl_s)
        return ticket

    def redeem(self, ticket: str) -> Caller | None:
        """Whose it is, once. None for one that is unknown, used or too old."""
        issued = self._issued.pop(ticket, None)
        return issued.caller if issued is not None and self._clock() < issued.until else None

    def _forget_expired(self) -> None:
        now = self._clock()
        for ticket in [ticket for ticket, issued in self._issued.items() if issued.until <= now]:
            del self._issued[ticket]


UPLOADS = web.AppKey("upload_tickets", Tickets)
"""For POST of one input file: an agent that got one in an answer has no key of its own."""

UPLOAD_TTL_S = 900.0
"""An agent uploads at once; a person that it asks has a while."""
