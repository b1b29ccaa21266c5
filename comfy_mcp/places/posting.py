"""Sends one webhook: a POST to a public address, without redirects, cookies or proxies, within a time."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp

from comfy_mcp.domain.ids import ClientId
from comfy_mcp.places.downloads import Sockets, why
from comfy_mcp.places.lookups import Lookups

POST_S = 15.0
"""For all of one try: the specification advises 15 to 30 s."""

_GONE = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """`error` None: the receiver has it. `gone`: it wants no more of them. `pause_s`: it wants no try
    sooner."""

    error: str | None = None
    gone: bool = False
    pause_s: float = 0.0


class Poster:
    """`private`: addresses of this machine and of private networks are allowed too."""

    def __init__(self, *, private: bool, timeout_s: float = POST_S) -> None:
        self._private = private
        self._lookups = Lookups()
        self._timeout_s = timeout_s

    async def __call__(
        self, url: str, headers: Mapping[str, str], body: bytes, client: ClientId | None = None
    ) -> Posted:
        """`client`: whose share of the lookups it takes. Raises nothing of the network's: why it failed is in
        the answer, without what may be secret."""
        sockets = Sockets(self._private)
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(
                        limit=1,
                        socket_factory=sockets,
                        resolver=self._lookups.of(client),
                        force_close=True,
                    ),
                    timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                    trust_env=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                ) as session,
                session.post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                status, pause = response.status, response.headers.get("Retry-After")
        except (aiohttp.ClientError, OSError, UnicodeError) as error:  # TimeoutError is an OSError
            refused = f"{sockets.refused} is not on the public internet"
            return Posted(error=why(error) if sockets.refused is None else refused)
        if 200 <= status < 300:
            return Posted()
        redirected = "; redirects are not followed" if 300 <= status < 400 else ""
        said = f"the answer is HTTP {status}{redirected}"
        return Posted(error=said, gone=status == _GONE, pause_s=_seconds(pause))


def _seconds(retry_after: str | None) -> float:
    """Of that header, a number or a date; 0 where it says nothing that can be read."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
