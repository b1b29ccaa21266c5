"""HTTP with one service: every foreign error translated, and the key in a header that goes nowhere else.

Messages name the lane and what was asked; no address, header or body stands in them.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp

from comfy_mcp.domain import large_json
from comfy_mcp.domain.errors import EngineBadAnswer, EngineUnreachable, ErrorCode, NotFound
from comfy_mcp.domain.redaction import without_values
from comfy_mcp.places import json_text
from comfy_mcp.places.cloud.service import NotNow
from comfy_mcp.places.downloads import why
from comfy_mcp.places.lookups import Lookups
from comfy_mcp.settings import EngineGroup, EngineSettings

ANSWER_BYTES = 32 * 2**20
"""Largest JSON answer. Job queues give at most 10 MB."""

PARSE_HERE_BYTES = 2**18
"""Larger answers are parsed in a thread."""

MESSAGE_CHARS = 500
"""Of what a service says is wrong."""

BUSY_S, REFUSED_S, MOST_BUSY_S = 5.0, 30.0, 300.0
"""Pause after a 429 that names none, after one that refuses the key, and the longest that is believed."""

CHECK_KEY = "Check the lane's URL and key in the settings, and what the account may do."
WAIT = "The bridge tries again by itself."


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """`body` is {} where the answer is no JSON object."""

    status: int
    body: Mapping[str, Any]

    def error(self) -> tuple[str, str]:
        """Code and sentence, in the envelope `{error: {code, message}}`; else the status."""
        error = self.body.get("error")
        error = error if isinstance(error, Mapping) else {}
        message = str(error.get("message") or f"HTTP {self.status}")
        return str(error.get("code") or ""), message[:MESSAGE_CHARS]


class CloudHttp:
    """One session, opened inside the running loop. Close it with `close`."""

    def __init__(self, lane: EngineSettings, settings: EngineGroup) -> None:
        self.lane = lane.id
        self.base = lane.url
        self._headers = lane.header_values()
        self._secrets = {secret.rpartition(" ")[2] for secret in lane.secrets()} - {""}
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def is_ours(self, link: str) -> bool:
        """Whether a link leads to the service itself, where the key may go."""
        return urlsplit(urljoin(self.base, link))[:2] == urlsplit(self.base)[:2]

    async def ask(
        self,
        what: str,
        method: str,
        link: str,
        *,
        body: Mapping[str, Any] | None = None,
        form: aiohttp.MultipartWriter | None = None,
        headers: Mapping[str, str] | None = None,
        more_s: float = 0.0,
    ) -> Reply:
        """`link` is a path from the root of the host, or absolute. `more_s`: time for sending a form.

        Raises EngineUnreachable, NotNow (429, and a key that is refused), EngineBadAnswer (5xx, a redirect,
        no JSON, a link that leads elsewhere). Other statuses are the caller's.
        """
        if not self.is_ours(link):
            raise EngineBadAnswer(f"{self.lane}, {what}: a link leads to another host.", next_step=CHECK_KEY)
        headers = {**self._headers, **(headers or {})}
        data: Any = form
        if body is not None:
            data = await asyncio.to_thread(_dumped, body)
            headers["Content-Type"] = "application/json"
        timeout = self._timeout(self._settings.request_timeout_s + more_s)
        request = self._open().request(
            method,
            urljoin(self.base, link),
            data=data,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
        )
        with _Translated(self.lane, what):
            async with request as response:
                raw = await response.content.read(ANSWER_BYTES + 1)
                while not response.content.at_eof() and len(raw) <= ANSWER_BYTES:
                    raw += await response.content.read(ANSWER_BYTES)
        large = len(raw) > PARSE_HERE_BYTES
        body = await asyncio.to_thread(self._parsed, raw) if large else self._parsed(raw)
        return self._judged(what, response, raw, body)

    @asynccontextmanager
    async def bytes_of(self, what: str, link: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of a link of the service, sent without the key. Raises NotFound, EngineFault."""
        request = self._open().get(
            urljoin(self.base, link), timeout=self._timeout(None), allow_redirects=False, auto_decompress=True
        )
        with _Translated(self.lane, what):
            async with request as response:
                if response.status != 200:
                    self._judged(what, response, b"", {})
                    raise NotFound(
                        f"{self.lane}, {what}: HTTP {response.status}.",
                        next_step="Run the workflow again.",
                        code=ErrorCode.OUTPUT_GONE,
                    )
                yield response.content.iter_chunked(2**18)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(resolver=Lookups().of(None))
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def _timeout(self, total: float | None) -> aiohttp.ClientTimeout:
        limits = self._settings
        return aiohttp.ClientTimeout(
            total=total, sock_connect=limits.connect_timeout_s, sock_read=limits.request_timeout_s
        )

    def _judged(
        self, what: str, response: aiohttp.ClientResponse, raw: bytes, body: Mapping[str, Any]
    ) -> Reply:
        status = response.status
        reply = Reply(status=status, body=body)
        said = f"{self.lane}, {what}: {reply.error()[1].rstrip('.')}."
        if status == 429:
            raise NotNow(said, next_step=WAIT, after_s=_seconds(response.headers.get("Retry-After")))
        if status in {401, 402, 403}:
            raise NotNow(said, next_step=CHECK_KEY, after_s=REFUSED_S)
        if status >= 500 or 300 <= status < 400 or len(raw) > ANSWER_BYTES:
            raise EngineBadAnswer(said, next_step=WAIT)
        if status == 200 and raw and not reply.body:
            raise EngineBadAnswer(f"{self.lane}, {what}: the answer is not JSON.", next_step=CHECK_KEY)
        return reply

    def _parsed(self, raw: bytes) -> Mapping[str, Any]:
        try:
            parsed = json_text.parse(without_values(raw.decode("utf-8", "replace"), self._secrets))
        except (ValueError, RecursionError):
            return {}
        return parsed if isinstance(parsed, dict) else {}


class _Translated:
    """aiohttp's errors and timeouts as EngineUnreachable."""

    def __init__(self, lane: str, what: str) -> None:
        self._where = f"{lane}, {what}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, aiohttp.ClientError | OSError):  # TimeoutError is an OSError
            raise EngineUnreachable(f"{self._where}: {why(error)}.", next_step=WAIT) from None


def _dumped(body: Mapping[str, Any]) -> bytes:
    return large_json.dumps(body, large=large_json.is_large(body)).encode()


def _seconds(text: str | None) -> float:
    """Of a Retry-After; a date counts as none."""
    text = (text or "").strip()
    return min(float(text), MOST_BUSY_S) if text.isascii() and text.isdigit() else BUSY_S
