"""The websocket side: who is connected, and which frame goes to whom.

Frames are made by any thread and delivered in the event loop. Every socket has its own bounded queue, so a
reader that stops reading is cut off and holds up nobody else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from comfy_mcp.embedded.config import EngineConfig

Json = dict[str, Any]
_log = logging.getLogger(__name__)

_PREVIEW = 1
_PREVIEW_WITH_METADATA = 4
_JPEG = 1
_CLOSE_SECONDS = 2.0


@dataclass(slots=True, eq=False)
class _Socket:
    ws: web.WebSocketResponse
    transport: asyncio.WriteTransport | None
    waiting: deque[str | bytes] = field(default_factory=deque)
    size: int = 0
    more: asyncio.Event = field(default_factory=asyncio.Event)
    cut_off: bool = False
    goodbye: bool = False


class SocketHub:
    """All open websockets by client id. `status` gives the exec_info that clients see first."""

    def __init__(self, config: EngineConfig, status: Callable[[], Json]) -> None:
        self._config = config
        self._status = status
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[str, _Socket] = {}
        self._flags: dict[str, Json] = {}
        self._executing: tuple[str, str] | None = None
        self._open: set[_Socket] = set()

    @property
    def features(self) -> Json:
        return {"supports_preview_metadata": True, "max_upload_size": self._config.max_upload_bytes}

    # -- from any thread ---------------------------------------------------------------------------

    def send(self, event: str, data: Json, client_id: str | None) -> None:
        """Queue a JSON event for one client, or for everybody when client_id is None."""
        if self._sockets:
            self._later(json.dumps({"type": event, "data": data}), client_id)

    def send_preview(self, jpeg: bytes, metadata: Json | None, client_id: str | None) -> None:
        """Queue a JPEG preview; with metadata it is event 4, without event 1."""
        if metadata is None:
            self._later(struct.pack(">II", _PREVIEW, _JPEG) + jpeg, client_id)
            return
        described = json.dumps({**metadata, "image_type": "image/jpeg"}).encode()
        self._later(struct.pack(">II", _PREVIEW_WITH_METADATA, len(described)) + described + jpeg, client_id)

    def wants_metadata(self, client_id: str | None) -> bool:
        """Did this client announce supports_preview_metadata on its connection?"""
        flags = self._flags.get(client_id, {}) if client_id is not None else {}
        return flags.get("supports_preview_metadata") is True

    def listens(self, client_id: str | None) -> bool:
        """Is there anybody to send a preview to? Saves encoding it when not."""
        return bool(self._sockets) if client_id is None else client_id in self._sockets

    def set_executing(self, client_id: str | None, node_id: str | None) -> None:
        """Remember the running node: its owner is sent it after a reconnect."""
        self._executing = None if client_id is None or node_id is None else (client_id, node_id)

    # -- in the event loop -------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """GET /ws?clientId=…"""
        ws = web.WebSocketResponse(timeout=_CLOSE_SECONDS, max_msg_size=self._config.max_upload_bytes)
        await ws.prepare(request)
        client_id = request.rel_url.query.get("clientId") or uuid.uuid4().hex
        socket = _Socket(ws, request.transport)
        # The newest socket of an id wins; the older one stays open and gets nothing more.
        self._sockets[client_id] = socket
        self._flags.pop(client_id, None)
        self._open.add(socket)
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write(socket), name=f"ws-writer-{client_id}")
                self._greet(socket, client_id)
                await self._read(socket, client_id)
                if not socket.goodbye:
                    writer.cancel()
        finally:
            # By id and not by socket, as in ComfyUI: when an old socket closes, a newer one with the same
            # client id is unregistered too and gets nothing more. Clients have to handle that.
            self._sockets.pop(client_id, None)
            self._flags.pop(client_id, None)
            self._open.discard(socket)
        return ws

    def close(self) -> None:
        """Let every writer send what is left and then the close frame. The server waits for the handlers."""
        for socket in self._open:
            socket.goodbye = True
            socket.more.set()

    def _greet(self, socket: _Socket, client_id: str) -> None:
        status = {"status": self._status(), "sid": client_id}
        self._offer(socket, json.dumps({"type": "status", "data": status}))
        if self._executing is not None and self._executing[0] == client_id:
            self._offer(socket, json.dumps({"type": "executing", "data": {"node": self._executing[1]}}))

    async def _read(self, socket: _Socket, client_id: str) -> None:
        """Feature flags count in the first JSON object that a client sends; all else is ignored."""
        first = True
        async for message in socket.ws:
            body = _json_object(message.data) if first and message.type is WSMsgType.TEXT else None
            if body is None:
                continue
            first = False
            if body.get("type") == "feature_flags":
                flags = body.get("data")
                self._flags[client_id] = flags if isinstance(flags, dict) else {}
                self._offer(socket, json.dumps({"type": "feature_flags", "data": self.features}))

    async def _write(self, socket: _Socket) -> None:
        while True:
            while socket.waiting:
                frame = socket.waiting.popleft()
                socket.size -= len(frame)
                try:
                    if isinstance(frame, str):
                        await socket.ws.send_str(frame)
                    else:
                        await socket.ws.send_bytes(frame)
                except (ConnectionError, RuntimeError):
                    return  # The reader notices the same end and cleans up.
            if socket.cut_off:
                return
            if socket.goodbye:
                await socket.ws.close(code=1001, message=b"The engine stops.")
                return
            socket.more.clear()
            await socket.more.wait()

    def _later(self, frame: str | bytes, client_id: str | None) -> None:
        self._loop.call_soon_threadsafe(self._deliver, frame, client_id)

    def _deliver(self, frame: str | bytes, client_id: str | None) -> None:
        if client_id is None:
            for socket in list(self._sockets.values()):
                self._offer(socket, frame)
        elif client_id in self._sockets:
            self._offer(self._sockets[client_id], frame)

    def _offer(self, socket: _Socket, frame: str | bytes) -> None:
        """Queue a frame. Previews are dropped at half of the bound; at the bound the reader is cut off."""
        if socket.cut_off:
            return
        count, size = len(socket.waiting), socket.size
        half_full = (
            count * 2 > self._config.socket_queue or (size + len(frame)) * 2 > self._config.socket_queue_bytes
        )
        if half_full and isinstance(frame, bytes):
            return
        if count >= self._config.socket_queue or size > self._config.socket_queue_bytes:
            _log.warning("A websocket reader is too slow and is cut off.")
            socket.cut_off = True
            socket.waiting.clear()
            if socket.transport is not None:
                socket.transport.abort()
        else:
            socket.waiting.append(frame)
            socket.size += len(frame)
        socket.more.set()


def _json_object(text: str) -> Json | None:
    try:
        body = json.loads(text)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
