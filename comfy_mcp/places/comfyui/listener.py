"""The engine's event stream: /ws kept open, and each event given on where it is read.

Nothing is kept between the socket and the consumer, which takes each event at once: an engine with one slow
reader sends to nobody (point 6 of its protocol).

Client id (docs/decisions/0005-websocket-client-id.md): events go only to the client id that a prompt was
sent with, so the id is kept over a reconnect when the engine confirmed the close of the old socket. It is a
fresh one otherwise, because an old socket that closes late would unregister the new one unseen.
"""

import asyncio
import time
import uuid
from collections.abc import Callable

import aiohttp
import structlog

from comfy_mcp.domain.errors import EngineFault
from comfy_mcp.domain.events import EngineConnected, EngineDisconnected, EngineEvent, FrameLost
from comfy_mcp.places.comfyui.answers import WireFault
from comfy_mcp.places.comfyui.backoff import Backoff
from comfy_mcp.places.comfyui.transport import MESSAGE_BYTES, Transport
from comfy_mcp.places.comfyui.wire import FEATURE_FLAGS, Decoder
from comfy_mcp.settings import Settings

_log = structlog.get_logger(__name__)


def new_client_id() -> str:
    return uuid.uuid4().hex


def _nobody(_event: EngineEvent) -> None:
    """Before `run`."""


class Listener:
    """One engine's stream. `run` it once at a time; `client_id` is for the prompts sent meanwhile."""

    def __init__(
        self,
        transport: Transport,
        settings: Settings,
        *,
        new_id: Callable[[], str] = new_client_id,
        follows: str | None = None,
        message_bytes: int = MESSAGE_BYTES,
    ) -> None:
        """`follows`: a client id of before, kept whatever happens: nothing is submitted under it any more."""
        self._transport = transport
        self._settings = settings
        self._new_id = new_id
        self._hear: Callable[[EngineEvent], None] = _nobody
        self._message_bytes = message_bytes
        self._follows = follows
        self._client_id = follows or new_id()
        self._used = False
        self._connected = False
        self._down_reported = False
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._answered: aiohttp.ClientWebSocketResponse | None = None
        self._closing = asyncio.Lock()

    @property
    def client_id(self) -> str:
        """The id of the open socket, or of the next one. A prompt's events go to the id it was sent with."""
        return self._client_id

    @property
    def connected(self) -> bool:
        return self._connected

    async def run(self, hear: Callable[[EngineEvent], None]) -> None:
        """Until cancelled, or until `hear` raises. `hear` is quick: nothing else is read meanwhile.

        EngineConnected after every connect, once the engine has greeted; EngineDisconnected once per loss,
        and once when the first attempt fails.
        """
        if self._used:
            self._take_fresh_id()  # whoever took over meanwhile may listen to what is sent to the last one
        self._used = True
        self._hear = hear
        await self._keep_connected()

    async def reconnect(self) -> None:
        """Close the socket and let `run` open it again; for a consumer that finds it deaf (point 3).

        Returns when the engine has confirmed the close, or has not within `connect_timeout_s`.
        """
        if self._socket is not None:
            await self._close(self._socket)

    async def _keep_connected(self) -> None:
        backoff = Backoff(max_s=self._settings.reconnect_max_s)
        while True:
            try:
                socket = await self._transport.websocket(self._client_id, message_bytes=self._message_bytes)
            except EngineFault as fault:
                self._report_down(fault.message)
            else:
                backoff = backoff.connected(time.monotonic())
                self._report_down(await self._read(socket))
            backoff = backoff.lost(time.monotonic())
            await asyncio.sleep(backoff.pause_s)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        """Read until the connection ends; returns why. Afterwards the id fits a reconnect."""
        self._socket = socket
        confirmed = False
        try:
            reason, confirmed = await self._read_frames(socket)
        finally:
            self._socket = None
            self._connected = False
            confirmed = await self._close(socket) or confirmed
            if not confirmed:
                self._take_fresh_id()
        return reason

    def _take_fresh_id(self) -> None:
        if self._follows is None:
            self._client_id = self._new_id()

    async def _close(self, socket: aiohttp.ClientWebSocketResponse) -> bool:
        """Close it if nobody has. Whether the engine answered a close of ours."""
        async with self._closing:
            if not socket.closed:
                await socket.close()
                # The code is the engine's own; 1006 means that it sent none.
                if socket.close_code not in {None, aiohttp.WSCloseCode.ABNORMAL_CLOSURE}:
                    self._answered = socket
            return self._answered is socket

    async def _read_frames(self, socket: aiohttp.ClientWebSocketResponse) -> tuple[str, bool]:
        """(why it ended, whether the engine confirmed the close)."""
        decoder = Decoder()
        try:
            await socket.send_str(FEATURE_FLAGS)
            # The greeting proves that the engine has registered this client id. Not receive(timeout=…): each
            # pong starts that one anew, and an engine that only answers pings would be waited for for ever.
            async with asyncio.timeout(self._settings.request_timeout_s):
                message = await socket.receive()
            while message.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
                self._take(decoder, message)
                message = await socket.receive()
        except TimeoutError:
            return "no greeting from the engine in time", False
        except ConnectionError:
            return "the connection broke", False
        if message.type is aiohttp.WSMsgType.CLOSE:
            return f"closed by the engine with code {message.data}", True
        if message.type is aiohttp.WSMsgType.CLOSING:
            return "closed by the bridge", False
        return _reason(socket, message), False

    def _take(self, decoder: Decoder, message: aiohttp.WSMessage) -> None:
        """Give on what a frame says."""
        is_text = message.type is aiohttp.WSMsgType.TEXT
        try:
            events = (
                decoder.text(self._transport.without_secrets(message.data))
                if is_text
                else decoder.binary(message.data)
            )
        except WireFault as fault:
            # A lookup finds out what it said; a reconnect would lose more.
            _log.warning("frame_not_understood", engine=self._transport.engine, reason=str(fault))
            events = (FrameLost(type="unreadable"),) if is_text else ()  # a preview is no loss
        if not self._connected:
            # An engine that gives another id than asked for sends the events there.
            self._client_id = decoder.sid or self._client_id
            self._connected = True
            self._down_reported = False
            self._hear(EngineConnected(sid=decoder.sid))
        for event in events:
            self._hear(event)

    def _report_down(self, reason: str) -> None:
        if self._down_reported:
            return
        self._down_reported = True
        event = "engine_disconnected" if self._follows is None else "following_interrupted"
        _log.warning(event, engine=self._transport.engine, reason=reason)
        self._hear(EngineDisconnected(reason=reason))


def _reason(socket: aiohttp.ClientWebSocketResponse, message: aiohttp.WSMessage) -> str:
    """Without the text of foreign exceptions, which may hold URLs."""
    error = message.data if isinstance(message.data, BaseException) else socket.exception()
    if isinstance(error, TimeoutError):
        return "no answer to the heartbeat"
    if isinstance(error, aiohttp.WebSocketError):
        return f"an invalid frame (code {error.code}; 1009 = too large)"
    return "the connection broke"
