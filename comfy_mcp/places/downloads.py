"""Files behind URLs that a caller names: from public addresses only.

Each address is judged where the connection to it is made, so nothing can lead elsewhere: not a name that
answers differently the next time (DNS rebinding), not another spelling of an address, not a redirect.
"""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import unquote, urljoin, urlsplit

import aiohttp

from comfy_mcp.domain.addresses import is_public
from comfy_mcp.domain.errors import ErrorCode, InvalidInput, file_too_large
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.places.lookups import Lookups

MAX_HOPS = 5
DOWNLOAD_S = 45.0
"""For all of it: MCP clients wait 60 s for a call."""

READ_S = 15.0
CHUNK_BYTES = 64 * 1024

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ENDINGS = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif"}
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity"}
_SETTING = "COMFY_BRIDGE_PRIVATE_URLS"


class Downloads:
    """`private`: addresses of this machine and of private networks are allowed too. `limit_s`: for one."""

    def __init__(self, *, private: bool, limit_s: float = DOWNLOAD_S) -> None:
        self._private = private
        self._lookups = Lookups()
        self._limit_s = limit_s

    @asynccontextmanager
    async def __call__(
        self, url: str, limit: int, client: ClientId | None = None
    ) -> "AsyncIterator[Downloaded]":
        """The file behind `url`, open for the time of the context, and for `limit_s` at most. `client`: whose
        share of the lookups it takes.

        Raises InvalidInput (path_not_allowed for an address that is not public, path_unreadable),
        LimitExceeded (too_large).
        """
        sockets = Sockets(self._private)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=1, socket_factory=sockets, resolver=self._lookups.of(client)
            ),
            timeout=aiohttp.ClientTimeout(total=self._limit_s, sock_connect=READ_S, sock_read=READ_S),
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            try:
                async with asyncio.timeout(self._limit_s), _followed(session, url) as response:
                    if (response.content_length or 0) > limit:
                        raise file_too_large(limit)
                    yield Downloaded(name=_name(response), response=response)
            except (aiohttp.ClientError, OSError, UnicodeError) as error:  # TimeoutError is an OSError
                if sockets.refused is not None:
                    raise _refused(url, sockets.refused) from None
                _fail(url, why(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """`name` ends like the file, where that is known."""

    name: str
    response: aiohttp.ClientResponse

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self.response.content.iter_chunked(CHUNK_BYTES):
            yield chunk


class Sockets:
    """Makes the sockets of one transfer. `refused`: an address to which none was made."""

    def __init__(self, private: bool) -> None:
        self._private = private
        self.refused: str | None = None

    def __call__(self, where: Any) -> socket.socket:
        family, kind, protocol, _, place = where
        address = str(place[0])
        if not self._private and not is_public(ipaddress.ip_address(address.partition("%")[0])):
            self.refused = address
            raise OSError("not a public address")
        return socket.socket(family=family, type=kind, proto=protocol)


@asynccontextmanager
async def _followed(session: aiohttp.ClientSession, url: str) -> AsyncIterator[aiohttp.ClientResponse]:
    at = url
    for _ in range(MAX_HOPS + 1):
        async with session.get(at, allow_redirects=False, headers=_HEADERS) as response:
            if response.status == 200:
                yield response
                return
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or not target:
                _fail(url, f"the answer is HTTP {response.status}")
            try:
                at = urljoin(str(response.url), target)
            except ValueError:
                _fail(url, "it redirects to what is no URL")
    _fail(url, f"it redirects more than {MAX_HOPS} times")


def why(error: Exception) -> str:
    """Why a transfer failed, without what may be secret."""
    match error:
        case TimeoutError():
            return "it does not answer in time"
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return "it is no URL of http or https"
        case UnicodeError():  # of a label without characters, or of more than 63
            return "its host name is not valid"
        case aiohttp.ClientConnectorDNSError(os_error=OSError(errno=errno.EAGAIN)):
            return "too many host names are being looked up now"
        case aiohttp.ClientConnectorDNSError():
            return "its host name is not known"
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate is not trusted"
        case aiohttp.ClientConnectorError():
            return "nothing answers there"
        case aiohttp.ServerDisconnectedError() | ConnectionError():
            return "it closed the connection"
        case _:
            return f"the transfer broke ({type(error).__name__})"


def _name(response: aiohttp.ClientResponse) -> str:
    """By the path of the address, else by the type that the server says."""
    name = unquote(response.url.path).rpartition("/")[2]
    return name if "." in name else _ENDINGS.get(response.content_type, "")


def _shown(url: str) -> str:
    """Without what may be secret: a query, a password."""
    try:
        parts = urlsplit(url)
        text = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
    except ValueError:
        text = "URL"
    return text if len(text) <= 200 else f"{text[:199]}…"


def _fail(url: str, why: str) -> NoReturn:
    raise InvalidInput(
        f"{_shown(url)} can't be read: {why}.",
        next_step="Check the URL: it must give the file itself, without a login.",
        code=ErrorCode.PATH_UNREADABLE,
    )


def _refused(url: str, host: str) -> InvalidInput:
    return InvalidInput(
        f"{_shown(url)} leads to {host}, which is not on the public internet.",
        next_step=f"Give a path or another URL; {_SETTING}=true allows private addresses.",
        code=ErrorCode.PATH_NOT_ALLOWED,
    )
