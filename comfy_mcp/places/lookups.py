"""Looks up host names on threads of their own: a name server that does not answer delays no other work."""

import asyncio
import errno
import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult

from comfy_mcp.daemon_threads import on_daemon_thread
from comfy_mcp.domain.errors import LimitExceeded
from comfy_mcp.shares import Shares

AT_ONCE = 128
"""Twice the downloads, or webhooks, that there can be: the system's resolver gives up after some 30 s, and
until then a lookup holds its thread."""

LOOKUP_S = 10.0
"""Somebody waits for one name. Name servers that answer do so within a second."""


class Lookups:
    """Those that are under way, by the client that they are for."""

    def __init__(self, *, at_once: int = AT_ONCE, limit_s: float = LOOKUP_S) -> None:
        self._places = Shares(at_once, "lookups of host names")
        self._limit_s = limit_s

    def of(self, client: str | None) -> AbstractResolver:
        """The resolver of one client's connections."""
        return _Resolver(self, client)

    async def addresses(
        self, client: str | None, host: str, port: int, family: socket.AddressFamily
    ) -> list[ResolveResult]:
        """Raises OSError: EAGAIN where the client has too many lookups under way, TimeoutError."""
        try:
            self._places.take(client)
        except LimitExceeded as error:
            raise OSError(errno.EAGAIN, error.message) from None

        def look() -> list[ResolveResult]:
            return _looked_up(host, port, family)

        found = on_daemon_thread(look, name="lookup")
        found.add_done_callback(lambda done: self._ended(client, done))
        if not (await asyncio.wait({found}, timeout=self._limit_s))[0]:
            raise TimeoutError
        return found.result()

    def _ended(self, client: str | None, done: asyncio.Future[list[ResolveResult]]) -> None:
        """Whether or not somebody waits still: only now its thread is free."""
        self._places.give_back(client)
        done.exception()


class _Resolver(AbstractResolver):
    def __init__(self, lookups: Lookups, client: str | None) -> None:
        self._lookups = lookups
        self._client = client

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return await self._lookups.addresses(self._client, host, port, family)

    async def close(self) -> None:
        """Its lookups end by themselves."""


def _looked_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            host=_numeric(address),
            port=int(address[1]),
            family=kind,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, protocol, _, address in found
    ]


def _numeric(address: Sequence[object]) -> str:
    """With its zone, which an IPv6 address of one link needs."""
    zone = address[3] if len(address) > 3 else 0
    return f"{address[0]}%{zone}" if zone else str(address[0])
