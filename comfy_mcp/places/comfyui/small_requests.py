"""Requests with small bodies on the connections of aiohttp's session, without what the session makes anew for
each of them (a URL, cookies, tracing, a task that sends the body): a third of its CPU.

What aiohttp keeps private is touched here and in `splice.py`; tests fail when an upgrade changes it.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
from aiohttp import hdrs
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from comfy_mcp.places.comfyui.answers import WireFault

SMALL_BYTES = 64 * 1024
"""A larger body is sent by the session, which waits for the engine to read it."""


@dataclass(slots=True)
class SmallAnswer:
    """`body` is empty unless it was asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def content_type(self) -> str:
        return self.headers.get(hdrs.CONTENT_TYPE, "application/octet-stream").partition(";")[0].strip()

    @property
    def content_length(self) -> int | None:
        length = self.headers.get(hdrs.CONTENT_LENGTH)
        return None if length is None else int(length)

    def fits(self, limit: int) -> bool:
        """Whether the engine says that the body has at most `limit` bytes."""
        length = self.content_length
        return length is not None and length <= limit


class SmallRequests:
    """Each within the total time of `timeout`. Raises what the session raises, and WireFault for a body that
    is too long or does not end."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        ssl: Any,
    ) -> None:
        """`url` and `headers` of the engine."""
        self._session = session
        self._timeout = timeout
        self._like = aiohttp.ClientRequest("GET", URL(url), headers=headers, session=session, ssl=ssl)
        self._prefix = self._like.url.raw_path.rstrip("/")
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in self._like.headers.items())

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        read: Collection[int] = (),
        limit: int = 0,
        is_file: bool = False,
    ) -> SmallAnswer:
        """`path` is encoded, and may have a query. The body is read for the statuses in `read`.

        `is_file`: one that is longer than `limit`, or of which nobody says how long, is not read; the time
        counts anew with each piece.
        """
        content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._headers}{self._cookies()}{content}\r\n"
        answer: SmallAnswer | None = None
        connection: aiohttp.connector.Connection | None = None
        try:
            async with asyncio.timeout(self._timeout.total) as limit_s:
                assert self._session.connector is not None
                connection = await self._session.connector.connect(self._like, [], self._timeout)
                protocol = connection.protocol
                assert protocol is not None
                protocol.set_response_params(skip_payload=method == "HEAD", read_until_eof=True)
                assert protocol.transport is not None
                protocol.transport.write(head.encode("latin-1") + body)
                message, payload = await protocol.read()
                while message.code < 200:
                    message, payload = await protocol.read()
                answer = SmallAnswer(message.code, message.headers)
                if answer.status in read and (not is_file or answer.fits(limit)):
                    more = partial(self._have_time, limit_s) if is_file else None
                    answer.body = await _body(payload, answer.content_length, limit, more)
        except HttpProcessingError as error:
            raise aiohttp.ClientResponseError(
                self._like.request_info, (), status=error.code, message=error.message
            ) from None
        except TimeoutError:
            if answer is None or is_file:
                raise
            raise WireFault("the answer does not end") from None
        finally:
            if connection is not None:
                # It is closed instead where something of the answer may still come.
                connection.release() if answer is not None else connection.close()
        if cookies := message.headers.getall(hdrs.SET_COOKIE, ()):
            self._session.cookie_jar.update_cookies_from_headers(cookies, self._like.url)
        return answer

    def _have_time(self, limit_s: asyncio.Timeout) -> None:
        if self._timeout.total is not None:
            limit_s.reschedule(asyncio.get_running_loop().time() + self._timeout.total)

    def _cookies(self) -> str:
        """What a proxy in front of the engine wants back."""
        jar = self._session.cookie_jar
        cookies = jar.filter_cookies(self._like.url) if len(jar) else None
        return f"Cookie: {cookies.output(header='', sep=';').strip()}\r\n" if cookies else ""


async def _body(
    content: aiohttp.StreamReader, length: int | None, limit: int, more: Callable[[], None] | None
) -> bytes:
    """`more` is called before each piece but the first."""
    parts: list[bytes] = []
    left = limit if length is None or length <= limit else -1
    while left >= 0:
        chunk = await content.readany()
        if not chunk:
            return b"".join(parts)
        parts.append(chunk)
        left -= len(chunk)
        if more is not None and not content.at_eof():
            more()
    raise WireFault(f"the answer is larger than {limit} bytes")
