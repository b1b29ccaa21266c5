"""The engine's event stream: keeps /ws open and passes each event on where it is read.

Nothing is kept between the socket and the consumer, which handles each event at once: an engine with one slow
reader sends to nobody (point 6 of its protocol).

Client id (docs/decisions/0005-websocket-client-id.md): events go only to the client id that a prompt was
sent with, so the id is kept over a reconnect when the engine confirmed the close of the old socket. It is a
fresh one otherwise, because an old socket that closes late would unregister the new one unseen.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable

import aiohttp
import structlog

from comfy_mcp.domain.errors import EngineBadAnswer, EngineFault
from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    EngineEvent,
    EngineWithoutEvents,
    FrameLost,
)
from comfy_mcp.places.comfyui.answers import WireFault
from comfy_mcp.places.comfyui.backoff import Backoff
from comfy_mcp.places.comfyui.diagnosis import UPGRADES
from comfy_mcp.places.comfyui.transport import MESSAGE_BYTES, Transport
from comfy_mcp.places.comfyui.wire import FEATURE_FLAGS, Decoder
from comfy_mcp.places.protocol import Trouble
from comfy_mcp.settings import EngineGroup

_log = structlog.get_logger(__name__)

MAX_PAUSE_S = 5.0
"""Longest pause between attempts to reach an engine that is down: a restart of ComfyUI takes longer."""

BURST = 64
"""Frames that are read without a turn for others: what has come already is given without waiting."""

LARGE_CHARS = 256 * 1024
"""A longer text frame is decoded in a thread: the outputs of a node may be megabytes."""


def new_client_id() -> str:
    return uuid.uuid4().hex


def _nobody(_event: EngineEvent) -> None:
    """Before `run`."""


class Listener:
    """One engine's stream. `run` it once at a time; `client_id` is for the prompts sent meanwhile."""

    def __init__(
        self,
        transport: Transport,
        settings: EngineGroup,
        *,
        new_id: Callable[[], str] = new_client_id,
        follows: str | None = None,
        message_bytes: int = MESSAGE_BYTES,
        probe: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """`follows`: a client id of before, kept whatever happens: nothing is submitted under it any more.
        `probe` raises EngineFault unless the engine answers requests: then it is there without its events."""
        self._transport = transport
        self._settings = settings
        self._new_id = new_id
        self._hear: Callable[[EngineEvent], None] = _nobody
        self._message_bytes = message_bytes
        self._follows = follows
        self._client_id = follows or new_id()
        self._used = False
        self._connected = False
        self._greeted = False
        self._probe = probe
        self._reported: type[EngineEvent] | None = None
        self.trouble: Trouble | None = None
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
        and once when the first attempt fails; EngineWithoutEvents once it is found to answer requests only.
        """
        if self._used:
            self._take_fresh_id()  # another process may follow the old one by now
        self._used = True
        self._hear = hear
        await self._keep_connected()

    async def reconnect(self) -> None:
        """Close the socket and let `run` open it again; for a consumer that finds it deaf.

        Returns when the engine has confirmed the close, or has not within `connect_timeout_s`.
        """
        if self._socket is not None:
            await self._close(self._socket)

    async def _keep_connected(self) -> None:
        backoff = Backoff(max_s=MAX_PAUSE_S)
        while True:
            try:
                socket = await self._transport.websocket(self._client_id, message_bytes=self._message_bytes)
            except EngineFault as fault:
                await self._refused(fault, again=backoff.failures > 0)
            else:
                backoff = backoff.connected(time.monotonic())
                self._greeted = False
                reason = await self._read(socket)
                if self._greeted:
                    self._report(EngineDisconnected(reason=reason))
                else:
                    silent = self._transport.bad_answer("GET /ws", reason, fix=UPGRADES)
                    await self._refused(silent, again=backoff.failures > 0)
            backoff = backoff.lost(time.monotonic())
            await asyncio.sleep(backoff.pause_s)

    async def _refused(self, fault: EngineFault, *, again: bool) -> None:
        """There is no stream. If something answered, or nothing did `again`, requests are tried: their
        failure says more, and an engine that answers them can be used."""
        if self._probe is None or not (again or isinstance(fault, EngineBadAnswer)):
            self._report(EngineDisconnected(reason=fault.message), _trouble(fault))
            return
        try:
            await self._probe()
        except EngineFault as other:
            self._report(EngineDisconnected(reason=other.message), _trouble(other))
        else:
            cause = f"{fault.sentence} Requests are answered, so workflows run, without live progress."
            trouble = Trouble(cause=cause, fix=fault.next_step, blocks=False)
            self._report(EngineWithoutEvents(reason=fault.message), trouble)

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
            frames = 0
            while (is_text := message.type is aiohttp.WSMsgType.TEXT) or (
                message.type is aiohttp.WSMsgType.BINARY
            ):
                self._transport.contact.received()
                if is_text and len(message.data) > LARGE_CHARS:
                    events = await asyncio.to_thread(self._decoded, decoder, message)
                else:
                    events = self._decoded(decoder, message)
                if not self._connected:
                    self._is_greeted(decoder)
                for event in events:
                    self._hear(event)
                frames += 1
                if frames % BURST == 0:
                    await asyncio.sleep(0)
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

    def _is_greeted(self, decoder: Decoder) -> None:
        """The first frame has come."""
        # An engine that gives another id than asked for sends the events there.
        self._client_id = decoder.sid or self._client_id
        self._connected = self._greeted = True
        self._reported = self.trouble = None
        self._hear(EngineConnected(sid=decoder.sid))

    def _decoded(self, decoder: Decoder, message: aiohttp.WSMessage) -> tuple[EngineEvent, ...]:
        is_text = message.type is aiohttp.WSMsgType.TEXT
        try:
            if is_text:
                return decoder.text(self._transport.without_secrets(message.data))
            return decoder.binary(message.data)
        except WireFault as fault:
            # A lookup finds out what it said; a reconnect would lose more.
            _log.warning("frame_not_understood", engine=self._transport.engine, reason=str(fault))
        except Exception:  # noqa: BLE001 - a defect in reading one frame must not end the stream of all
            _log.exception("frame_not_decoded", engine=self._transport.engine)
        return (FrameLost(type="unreadable"),) if is_text else ()  # a preview is no loss

    def _report(
        self, event: EngineDisconnected | EngineWithoutEvents, trouble: Trouble | None = None
    ) -> None:
        """Once, until the state is another. The driver logs it, but for a stream that is only followed."""
        self.trouble = trouble
        if self._reported is type(event):
            return
        self._reported = type(event)
        if self._follows is not None:
            _log.warning("following_interrupted", engine=self._transport.engine, reason=event.reason)
        self._hear(event)


def _trouble(fault: EngineFault) -> Trouble:
    return Trouble(cause=fault.sentence, fix=fault.next_step)


def _reason(socket: aiohttp.ClientWebSocketResponse, message: aiohttp.WSMessage) -> str:
    """Without the text of foreign exceptions, which may hold URLs."""
    error = message.data if isinstance(message.data, BaseException) else socket.exception()
    if isinstance(error, TimeoutError):
        return "no answer to the heartbeat"
    if isinstance(error, aiohttp.WebSocketError):
        return f"an invalid frame (code {error.code}; 1009 = too large)"
    return "the connection broke"
