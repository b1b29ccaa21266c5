"""One HTTP session with one engine: headers, TLS, limits, and every foreign error translated.

aiohttp's exceptions never leave this module, nor do URLs, headers or bodies: a message names the engine, the
endpoint and the status. What an error says about a POST: nothing is known of whether the engine took it.
"""

import asyncio
import io
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import aiohttp

from comfy_mcp.domain import large_json
from comfy_mcp.domain.errors import EngineBadAnswer, EngineUnreachable, ErrorCode, InvalidInput
from comfy_mcp.domain.redaction import HIDDEN
from comfy_mcp.places.comfyui import json_text
from comfy_mcp.places.comfyui.answers import WireFault
from comfy_mcp.places.comfyui.diagnosis import (
    READ_THE_LOG,
    Diagnosis,
    of_handshake,
    of_no_json,
    of_status,
)
from comfy_mcp.places.comfyui.splice import SocketBody
from comfy_mcp.places.protocol import CHECK_IT_RUNS
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


class Transport:
    """Opened lazily, inside the running loop. Close it with `close`."""

    def __init__(self, engine: EngineSettings, settings: EngineGroup) -> None:
        self.engine = engine.id
        self.timeout_s = settings.request_timeout_s
        self._engine = engine
        self._settings = settings
        self._headers = _checked(engine.header_values())
        self._ssl = _tls(engine, settings)
        self._secrets = settings.comfy_org_key_values
        self._session: aiohttp.ClientSession | None = None
        self._transfers: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        sessions = (self._session, self._transfers)
        self._session = self._transfers = None
        for session in sessions:
            if session is not None:
                await session.close()

    async def get_json(self, path: str, *, limit: int) -> tuple[int, Any]:
        """(status, JSON) of a GET; the JSON is None unless the status is 200. At most `limit` bytes.

        Tried a second time when the connection broke: a kept-alive one may have been closed meanwhile.
        """
        try:
            return await self._json("GET", path, limit=limit)
        except _ConnectionLost:
            return await self._json("GET", path, limit=limit)

    async def post_json(
        self, path: str, body: Mapping[str, Any], *, limit: int, parse: tuple[int, ...] = (200,)
    ) -> tuple[int, Any]:
        """(status, JSON) of a POST, sent once and never again. JSON is read for the statuses in `parse`."""
        # A stream, because aiohttp warns of large bodies given as bytes.
        large = large_json.is_large(body)
        text = await asyncio.to_thread(_dumped, body) if large else json.dumps(body)
        data = io.BytesIO(text.encode())
        headers = {"Content-Type": "application/json"}
        return await self._json("POST", path, limit=limit, parse=parse, data=data, headers=headers)

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

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, params: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> AsyncIterator["Answer"]:
        """An answer of any length: the timeout counts between two reads, not for the whole.

        A GET has a connection of those for files.
        """
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=self._settings.connect_timeout_s,
            sock_read=self._settings.request_timeout_s,
        )
        query = f"{path}?{urlencode(params)}"
        response = await self._send(
            method, query, headers=headers, timeout=timeout, is_transfer=method == "GET"
        )
        answer = Answer(
            response, self, f"{method} {path}", again=lambda: self.stream("HEAD", path, params=params)
        )
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
        with self.translated("GET /ws"):
            async with asyncio.timeout(self._settings.connect_timeout_s):
                return await self._open().ws_connect(
                    f"{self._engine.ws_url}?{urlencode({'clientId': client_id})}",
                    headers=self._headers,
                    heartbeat=self._settings.heartbeat_s,
                    max_msg_size=message_bytes,
                    timeout=aiohttp.ClientWSTimeout(ws_close=self._settings.connect_timeout_s),
                    ssl=self._ssl,
                )

    def without_secrets(self, text: str) -> str:
        """A text of the engine without the Comfy keys that it was sent: a failed node may repeat its own."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def bad_answer(self, endpoint: str, what: str, *, fix: str = READ_THE_LOG) -> EngineBadAnswer:
        return self.diagnosed(endpoint, Diagnosis(what=what, fix=fix))

    def unexpected(self, endpoint: str, status: int) -> EngineBadAnswer:
        """A status that is not the one of ComfyUI."""
        return self.diagnosed(endpoint, of_status(status))

    def diagnosed(self, endpoint: str, found: Diagnosis) -> EngineBadAnswer:
        return EngineBadAnswer(f"Engine {self.engine}, {endpoint}: {found.what}.", next_step=found.fix)

    def unreachable(self, endpoint: str, what: str) -> EngineUnreachable:
        return EngineUnreachable(f"Engine {self.engine}, {endpoint}: {what}.", next_step=CHECK_IT_RUNS)

    @contextmanager
    def translated(self, endpoint: str) -> Iterator[None]:
        """aiohttp's errors, timeouts and WireFault as EngineUnreachable and EngineBadAnswer."""
        try:
            yield
        except aiohttp.ClientConnectorError as error:
            raise self._not_connected(endpoint, error) from None
        except TimeoutError:
            what = f"Engine {self.engine}, {endpoint}: no answer in time."
            raise _TooSlow(what, next_step=CHECK_IT_RUNS) from None
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError):
            what = f"Engine {self.engine}, {endpoint}: the connection broke."
            raise _ConnectionLost(what, next_step=CHECK_IT_RUNS) from None
        except (aiohttp.WSServerHandshakeError, _Redirected) as error:
            raise self.diagnosed(endpoint, of_handshake(error.status)) from None
        except aiohttp.ClientPayloadError:
            raise self.bad_answer(endpoint, "the answer is incomplete") from None
        except aiohttp.ClientError as error:
            raise self.bad_answer(endpoint, f"not HTTP as expected ({type(error).__name__})") from None
        except WireFault as error:
            raise self.bad_answer(endpoint, str(error)) from None

    def _open_transfers(self) -> aiohttp.ClientSession:
        if self._transfers is None:
            connector = aiohttp.TCPConnector(limit=MAX_TRANSFERS)
            self._transfers = aiohttp.ClientSession(connector=connector)
        return self._transfers

    def _not_connected(self, endpoint: str, error: aiohttp.ClientConnectorError) -> EngineUnreachable:
        match error:
            case aiohttp.ClientConnectorCertificateError():
                what = "its TLS certificate is not trusted"
                fix = "Set COMFY_BRIDGE_ENGINE_CA_FILE to the CA certificate that signed it."
            case aiohttp.ClientConnectorSSLError():
                what = "no TLS connection"
                fix = "Check whether the address of ComfyUI must begin with http:// instead of https://."
            case aiohttp.ClientConnectorDNSError():
                what, fix = "its host name is not known", "Correct the host name in COMFYUI_URL."
            case _:
                number = error.os_error.errno
                reason = os.strerror(number) if number and number > 0 else type(error.os_error).__name__
                what, fix = f"no connection ({reason})", CHECK_IT_RUNS
        return EngineUnreachable(f"Engine {self.engine}, {endpoint}: {what}.", next_step=fix)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS)
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
        default = aiohttp.ClientTimeout(
            total=self._settings.request_timeout_s, sock_connect=self._settings.connect_timeout_s
        )
        with self.translated(f"{method} {path.partition('?')[0]}"):
            session = self._open_transfers() if is_transfer else self._open()
            return await session.request(
                method,
                f"{self._engine.url}{path}",
                data=data,
                headers={**self._headers, **(headers or {})},
                timeout=timeout or default,
                # A redirect is a login page or another host, which must not get the headers.
                allow_redirects=False,
                ssl=self._ssl,
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
        if not raw:
            return response.status, None
        for secret in self._secrets:
            raw = raw.replace(secret.encode(), HIDDEN.encode())
        try:
            # The parser holds the interpreter, but a thread lets the loop breathe between its switches.
            large = len(raw) > _PARSE_ON_LOOP_BYTES
            parsed = await asyncio.to_thread(json_text.parse, raw) if large else json_text.parse(raw)
        except (ValueError, RecursionError):
            raise self.diagnosed(endpoint, of_no_json(response.status, response.content_type)) from None
        return response.status, parsed


class Answer:
    """An answer whose body has not been read."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        transport: Transport,
        endpoint: str,
        *,
        again: Callable[[], AbstractAsyncContextManager["Answer"]] | None = None,
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
        """What changes whenever the bytes of the file change: its ETag and length.

        None where the engine gives none, or none that can be relied on: a file that was written less than
        SETTLED_S before the answer may be written again within the resolution of its times.
        """
        tag, size = self.headers.get("ETag", ""), self.total_length
        if not tag.startswith('"') or size is None:
            return None
        try:
            written, answered = (
                parsedate_to_datetime(self.headers[name]) for name in ("Last-Modified", "Date")
            )
        except (KeyError, ValueError):
            return None
        return f"{tag} {size}" if (answered - written).total_seconds() >= SETTLED_S else None

    async def unchanged(self) -> bool | None:
        """Whether the file has the same validator still; None when the engine has it no more."""
        assert self._again is not None
        async with self._again() as now:
            return None if now.status in {400, 404} else now.validator == self.validator

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
        except _TooSlow:
            raise self._transport.bad_answer(self._endpoint, "the answer does not end") from None
        return b"".join(parts)


class _TooSlow(EngineUnreachable):
    """A timeout passed."""


class _ConnectionLost(EngineUnreachable):
    """The connection broke after it was open."""


class _Redirected(aiohttp.ClientError):
    """Instead of following it."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


async def _refuse(_session: object, _context: object, redirect: aiohttp.TraceRequestRedirectParams) -> None:
    """A redirect is a login page or another host, which must not get the headers. `ws_connect` has no
    argument for that."""
    redirect.response.close()
    raise _Redirected(redirect.response.status)


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
