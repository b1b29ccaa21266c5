"""One HTTP session with one engine: headers, TLS, limits, and every foreign error translated.

aiohttp's exceptions never leave this module, nor do URLs, headers or bodies: a message names the engine, the
endpoint and the status. What an error says about a POST: nothing is known of whether the engine took it.
"""

import asyncio
import io
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote_plus

import aiohttp

from comfy_mcp.domain import large_json
from comfy_mcp.domain.errors import EngineUnreachable, ErrorCode, InvalidInput
from comfy_mcp.domain.redaction import without_values
from comfy_mcp.places import json_text
from comfy_mcp.places.comfyui.contact import Contact
from comfy_mcp.places.comfyui.diagnosis import of_no_json
from comfy_mcp.places.comfyui.faults import BROKEN, Faults, Redirected, TooSlow
from comfy_mcp.places.comfyui.small_requests import SMALL_BYTES, SmallAnswer, SmallRequests
from comfy_mcp.places.comfyui.splice import SocketBody
from comfy_mcp.places.lookups import Lookups
from comfy_mcp.settings import EngineGroup, EngineSettings

MAX_CONNECTIONS = 32
MAX_TRANSFERS = 256
"""Connections for files, apart from those that drive the engine: clients decide how long a transfer lasts.
The sidecar allows fewer at once (`Bounds.transfers`), so none waits here."""

MESSAGE_BYTES = 256 * 2**20
"""Largest WebSocket message from an engine: a preview of a custom node may be a whole picture."""

SETTLED_S = 2
"""File times are as coarse as a clock's tick: two seconds on FAT."""

_PARSE_ON_LOOP_BYTES = 256 * 1024


class Transport(Faults):
    """Opened lazily, inside the running loop. Close it with `close`."""

    def __init__(self, engine: EngineSettings, settings: EngineGroup) -> None:
        self.engine = engine.id
        self.timeout_s = settings.request_timeout_s
        self._engine = engine
        self._settings = settings
        self._timeout = aiohttp.ClientTimeout(
            total=settings.request_timeout_s, sock_connect=settings.connect_timeout_s
        )
        self._headers = _checked(engine.header_values())
        self._ssl = _tls(engine, settings)
        self._secrets = settings.comfy_org_key_values
        self.contact = Contact()
        self._session: aiohttp.ClientSession | None = None
        self._transfers: aiohttp.ClientSession | None = None
        self._small: SmallRequests | None = None
        self._small_files: SmallRequests | None = None
        self._lookups = Lookups()

    async def close(self) -> None:
        sessions = (self._session, self._transfers)
        self._session = self._transfers = self._small = self._small_files = None
        for session in sessions:
            if session is not None:
                await session.close()

    async def get_json(self, path: str, *, limit: int) -> tuple[int, Any]:
        """(status, JSON) of a GET; the JSON is None unless the status is 200. At most `limit` bytes."""
        answer = await self._ask("GET", path, read=(200,), limit=limit)
        return answer.status, await self._parsed(answer.body, f"GET {path}", answer)

    async def post_json(
        self, path: str, body: Mapping[str, Any], *, limit: int, parse: tuple[int, ...] = (200,)
    ) -> tuple[int, Any]:
        """(status, JSON) of a POST, sent once and never again. JSON is read for the statuses in `parse`."""
        large = large_json.is_large(body)
        raw = (await asyncio.to_thread(_dumped, body) if large else json.dumps(body)).encode()
        if len(raw) <= SMALL_BYTES:
            answer = await self._ask("POST", path, body=raw, read=parse, limit=limit)
            return answer.status, await self._parsed(answer.body, f"POST {path}", answer)
        # A stream, because aiohttp warns of large bodies given as bytes.
        data, headers = io.BytesIO(raw), {"Content-Type": "application/json"}
        return await self._json("POST", path, limit=limit, parse=parse, data=data, headers=headers)

    async def content_length(self, path: str, *, params: Mapping[str, str]) -> tuple[int, int | None]:
        """The status of a HEAD, and how long the body of a GET would be."""
        answer = await self._ask("HEAD", f"{path}?{_query(params)}")
        return answer.status, answer.content_length

    async def post_form(
        self, path: str, form: aiohttp.MultipartWriter, *, limit: int, timeout_s: float
    ) -> tuple[int, Any]:
        """(status, JSON) of a streamed multipart POST, sent once. `timeout_s` is for sending it."""
        timeout = aiohttp.ClientTimeout(
            total=timeout_s + self._settings.request_timeout_s,
            sock_connect=self._settings.connect_timeout_s,
            sock_read=self._settings.request_timeout_s,  # counts from the end of the sending
        )
        return await self._json("POST", path, limit=limit, data=form, timeout=timeout, is_transfer=True)

    async def get_file(self, path: str, *, params: Mapping[str, str], limit: int) -> SmallAnswer:
        """The answer to a GET of a file, with its body where that has at most `limit` bytes.

        The timeout counts between two reads, as for `stream`, and waiting is no silence of the engine.
        """
        if self._small_files is None:
            self._small_files = self._requests_of(self._open_transfers())
        query = f"{path}?{_query(params)}"
        return await self._asked(self._small_files, "GET", query, read=(200,), limit=limit, is_file=True)

    @asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> AsyncIterator["Answer"]:
        """The answer to a GET, of any length: the timeout counts between two reads, not for the whole."""
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=self._settings.connect_timeout_s,
            sock_read=self._settings.request_timeout_s,
        )
        query = f"{path}?{_query(params)}"
        response = await self._send("GET", query, headers=headers, timeout=timeout, is_transfer=True)
        answer = Answer(response, self, f"GET {path}", again=lambda: self._ask("HEAD", query))
        try:
            yield answer
        finally:
            if answer.taken_over:
                response.close()
            else:
                response.release()

    async def websocket(
        self, client_id: str, *, message_bytes: int = MESSAGE_BYTES
    ) -> aiohttp.ClientWebSocketResponse:
        """The engine's /ws, open. The caller closes it; `close()` waits for the engine's word (bounded)."""
        with self.contact.asking(), self.translated("GET /ws"):
            async with asyncio.timeout(self._settings.connect_timeout_s):
                return await self._open().ws_connect(
                    self._with_query(f"{self._engine.ws_url}?{_query({'clientId': client_id})}"),
                    headers=self._headers,
                    heartbeat=self._settings.request_timeout_s / 2,
                    max_msg_size=message_bytes,
                    timeout=aiohttp.ClientWSTimeout(ws_close=self._settings.connect_timeout_s),
                    ssl=self._ssl,
                )

    def _with_query(self, path: str) -> str:
        """With what the engine's URL has behind its `?`, such as a token."""
        query = self._engine.query
        return path if query is None else f"{path}{'&' if '?' in path else '?'}{query.get_secret_value()}"

    def without_secrets(self, text: str) -> str:
        """A text of the engine without the Comfy keys that it was sent: a failed node may repeat its own."""
        return without_values(text, self._secrets) if self._secrets else text

    def _open_transfers(self) -> aiohttp.ClientSession:
        if self._transfers is None:
            connector = aiohttp.TCPConnector(limit=MAX_TRANSFERS, resolver=self._lookups.of(None))
            self._transfers = aiohttp.ClientSession(connector=connector)
        return self._transfers

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, resolver=self._lookups.of(None))
            tracing = aiohttp.TraceConfig()
            tracing.on_request_redirect.append(_refuse)
            self._session = aiohttp.ClientSession(connector=connector, trace_configs=[tracing])
        return self._session

    async def _send(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
        is_transfer: bool = False,
    ) -> aiohttp.ClientResponse:
        # Not counted as silence: sending a file may last long while the engine is well.
        asking = nullcontext() if is_transfer else self.contact.asking()
        with asking, self.translated(f"{method} {path.partition('?')[0]}"):
            session = self._open_transfers() if is_transfer else self._open()
            return await session.request(
                method,
                f"{self._engine.url}{self._with_query(path)}",
                data=data,
                headers={**self._headers, **(headers or {})},
                timeout=timeout or self._timeout,
                # A redirect is a login page or another host, which must not get the headers.
                allow_redirects=False,
                ssl=self._ssl,
            )

    async def _ask(
        self, method: str, path: str, *, body: bytes = b"", read: tuple[int, ...] = (), limit: int = 0
    ) -> SmallAnswer:
        if self._small is None:
            self._small = self._requests_of(self._open())
        with self.contact.asking():
            return await self._asked(self._small, method, path, body=body, read=read, limit=limit)

    async def _asked(self, small: SmallRequests, method: str, path: str, **how: Any) -> SmallAnswer:
        """All but a POST is sent again when the connection broke: a kept one may have been closed before."""
        with self.translated(f"{method} {path.partition('?')[0]}"):
            path = self._with_query(path)
            try:
                return await small.ask(method, path, **how)
            except BROKEN as error:
                closed = small not in (self._small, self._small_files)  # the engine is none of ours any more
                if closed or method == "POST" or isinstance(error, aiohttp.ClientConnectorError):
                    raise
                return await small.ask(method, path, **how)

    def _requests_of(self, session: aiohttp.ClientSession) -> SmallRequests:
        return SmallRequests(
            session, self._engine.url, headers=self._headers, timeout=self._timeout, ssl=self._ssl
        )

    async def _json(
        self,
        method: str,
        path: str,
        *,
        limit: int,
        parse: tuple[int, ...] = (200,),
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
        is_transfer: bool = False,
    ) -> tuple[int, Any]:
        response = await self._send(
            method, path, data=data, headers=headers, timeout=timeout, is_transfer=is_transfer
        )
        endpoint = f"{method} {path}"
        try:
            if response.status not in parse:
                return response.status, None
            raw = await Answer(response, self, endpoint).read(limit=limit)
        finally:
            response.release()
        return response.status, await self._parsed(raw, endpoint, response)

    async def _parsed(self, raw: bytes, endpoint: str, answer: aiohttp.ClientResponse | SmallAnswer) -> Any:
        if not raw:
            return None
        said = self.without_secrets(raw.decode("utf-8", "replace")) if self._secrets else raw
        try:
            # The parser holds the interpreter, but a thread lets the loop breathe between its switches.
            large = len(raw) > _PARSE_ON_LOOP_BYTES
            return await asyncio.to_thread(json_text.parse, said) if large else json_text.parse(said)
        except (ValueError, RecursionError):
            raise self.diagnosed(endpoint, of_no_json(answer.status, answer.content_type)) from None


_quoted = lru_cache(256)(quote_plus)
"""Files of one engine have the same folders again and again."""


def _query(params: Mapping[str, str]) -> str:
    return "&".join(f"{name}={_quoted(value)}" for name, value in params.items())


class Answer:
    """An answer whose body has not been read."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        transport: Transport,
        endpoint: str,
        *,
        again: Callable[[], Awaitable[SmallAnswer]] | None = None,
    ) -> None:
        """`again` asks for the headers of the same thing."""
        self._again = again
        self._response = response
        self._transport = transport
        self._endpoint = endpoint
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.content_type = response.content_type
        self.content_length = response.content_length
        self.taken_over = False

    @property
    def total_length(self) -> int | None:
        """Bytes of the whole file, also where a range of it was sent; None when the engine does not say."""
        if self.status != 206:
            return self.content_length
        total = self.headers.get("Content-Range", "").rpartition("/")[2]
        return int(total) if total.isascii() and total.isdigit() else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, decompressed, in the pieces that it comes in: some hundred KiB at most."""
        with self._transport.translated(self._endpoint):
            chunk = await self._response.content.readany()
        while chunk:
            yield chunk
            with self._transport.translated(self._endpoint):
                chunk = await self._response.content.readany()

    @property
    def validator(self) -> str | None:
        """What changes whenever the bytes of the file change; None where no header of the engine's does."""
        return _validator(self.headers, self.total_length)

    async def unchanged(self) -> bool | None:
        """Whether the file has the same validator still; None when the engine has it no more."""
        assert self._again is not None
        now = await self._again()
        gone = now.status in {400, 404}
        return None if gone else _validator(now.headers, now.content_length) == self.validator

    def take_over(self) -> SocketBody | None:
        """The rest of the body as the kernel can move it; None where it can't, and `chunks` goes on."""

        def fault(what: str) -> EngineUnreachable:
            return self._transport.unreachable(self._endpoint, what)

        body = SocketBody.of(self._response, timeout_s=self._transport.timeout_s, fault=fault)
        self.taken_over = body is not None
        return body

    async def read(self, *, limit: int) -> bytes:
        """The whole body. Raises EngineBadAnswer above `limit` bytes, and for one that does not end."""
        too_large = self._transport.bad_answer(self._endpoint, f"the answer is larger than {limit} bytes")
        if (self.content_length or 0) > limit:
            raise too_large
        parts: list[bytes] = []
        total = 0
        try:
            async for chunk in self.chunks():
                total += len(chunk)
                if total > limit:
                    raise too_large
                parts.append(chunk)
        except TooSlow:
            raise self._transport.bad_answer(self._endpoint, "the answer does not end") from None
        return b"".join(parts)


def _validator(headers: Mapping[str, str], size: int | None) -> str | None:
    """The file's ETag and length. None where the engine gives none, or none that can be relied on: a file
    that was written less than SETTLED_S before the answer may be written again within the resolution of its
    times."""
    tag = headers.get("ETag", "")
    if not tag.startswith('"') or size is None:
        return None
    try:
        written, answered = (parsedate_to_datetime(headers[name]) for name in ("Last-Modified", "Date"))
    except (KeyError, ValueError):
        return None
    return f"{tag} {size}" if (answered - written).total_seconds() >= SETTLED_S else None


async def _refuse(_session: object, _context: object, redirect: aiohttp.TraceRequestRedirectParams) -> None:
    """A redirect is a login page or another host, which must not get the headers. `ws_connect` has no
    argument for that."""
    redirect.response.close()
    raise Redirected(redirect.response.status)


def _dumped(body: Mapping[str, Any]) -> str:
    return large_json.dumps(body, large=True)


def _checked(headers: dict[str, str]) -> dict[str, str]:
    """Refuses what would smuggle in another header; aiohttp would only say so at the first request."""
    for name, value in headers.items():
        if not name or any(character in name + value for character in "\r\n\0"):
            raise InvalidInput(
                "A header for the engine has an empty name, or a line break or NUL in it.",
                next_step="Correct COMFY_BRIDGE_ENGINE_HEADERS.",
                code=ErrorCode.CONFIGURATION,
            )
    return headers


def _tls(engine: EngineSettings, settings: EngineGroup) -> ssl.SSLContext | bool:
    if settings.engine_ca_file is None or not engine.url.startswith("https:"):
        return True
    try:
        return ssl.create_default_context(cafile=str(settings.engine_ca_file))
    except OSError:
        raise InvalidInput(
            "The file of CA certificates can't be read or is not PEM.",
            next_step="Correct COMFY_BRIDGE_ENGINE_CA_FILE.",
            code=ErrorCode.CONFIGURATION,
        ) from None
