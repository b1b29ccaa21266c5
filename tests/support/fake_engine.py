"""A scripted ComfyUI: the endpoints with plain answers, any of which a test may replace with a misbehaviour.

    async with FakeEngine() as engine:
        engine.answers["GET /queue"] = html(502)
        engine.histories["…"] = {...}
        await engine.send(client_id, {"type": "status", …})

Sockets register as ComfyUI's do: a second one under the same id replaces the first, events go to one id only,
and a socket that ends unregisters its id, whoever holds it by then (points 3 and 5 of the protocol's notes).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import WSMsgType, web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True, kw_only=True)
class Connection:
    """One /ws connection. `received` are its text frames."""

    client_id: str
    query: dict[str, str]
    headers: dict[str, str]
    socket: web.WebSocketResponse
    received: list[Any] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class FakeEngine:
    def __init__(self, *, prefix: str = "", ssl_context: Any = None) -> None:
        self.answers: dict[str, Answer] = {}
        """By `METHOD /path`: used instead of the plain answer."""
        self.requests: list[Request] = []
        self.connections: asyncio.Queue[Connection] = asyncio.Queue()
        """Every socket that was greeted, in order."""
        self.sockets: dict[str, Connection] = {}
        self.histories: dict[str, Any] = {}
        self.running: list[str] = []
        self.pending: list[str] = []
        self.greets = True
        self.answers_pings = True
        self.answers_closes = True
        self.refuses_sockets: Answer | None = None
        self._prefix = prefix
        self._ssl = ssl_context
        self._hang = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._ssl else 'http'}://127.0.0.1:{self._port}{self._prefix}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens; after a `stop`, on the same port again, with an empty memory as after a restart."""
        app = web.Application(client_max_size=2**30)
        app.router.add_get(f"{self._prefix}/ws", self._ws)
        app.router.add_route("*", f"{self._prefix}/{{path:.*}}", self._http)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._ssl)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self._hang.set()
        for connection in list(self.sockets.values()):
            self.drop(connection)
        if self._runner is not None:
            await self._runner.cleanup()
        self._hang = asyncio.Event()

    async def send(self, client_id: str, message: dict[str, Any] | str | bytes) -> bool:
        """To the socket registered under this id; False when there is none, as ComfyUI does unseen."""
        connection = self.sockets.get(client_id)
        if connection is None:
            return False
        if isinstance(message, bytes):
            await connection.socket.send_bytes(message)
        else:
            text = message if isinstance(message, str) else json.dumps(message)
            await connection.socket.send_str(text)
        return True

    def drop(self, connection: Connection) -> None:
        """The connection breaks without a word, as when the process is killed."""
        transport = connection.socket._req.transport if connection.socket._req else None
        if transport is not None:
            transport.abort()

    async def hang(self, request: web.Request) -> web.StreamResponse:
        """An answer that never comes."""
        await self._hang.wait()
        raise web.HTTPServiceUnavailable

    def requests_to(self, endpoint: str) -> list[Request]:
        method, path = endpoint.split(" ")
        return [request for request in self.requests if (request.method, request.path) == (method, path)]

    async def _http(self, request: web.Request) -> web.StreamResponse:
        path = "/" + request.match_info["path"]
        body = await request.read()
        self.requests.append(
            Request(
                method=request.method,
                path=path,
                query=dict(request.query),
                headers={name.lower(): value for name, value in request.headers.items()},
                body=body,
            )
        )
        answer = self.answers.get(f"{request.method} {path}")
        return await answer(request) if answer is not None else self._plain(request.method, path, body)

    def _plain(self, method: str, path: str, body: bytes) -> web.Response:
        match method, path.strip("/").split("/"):
            case "POST", ["prompt"]:
                prompt_id = json.loads(body)["prompt_id"]
                self.pending.append(prompt_id)
                return web.json_response({"prompt_id": prompt_id, "number": 1, "node_errors": {}})
            case "GET", ["prompt"]:
                count = len(self.running) + len(self.pending)
                return web.json_response({"exec_info": {"queue_remaining": count}})
            case "GET", ["queue"]:
                running = [[0, prompt_id, {}, {}, []] for prompt_id in self.running]
                pending = [[n, prompt_id, {}, {}, []] for n, prompt_id in enumerate(self.pending)]
                return web.json_response({"queue_running": running, "queue_pending": pending})
            case "POST", ["queue"]:
                gone = json.loads(body).get("delete", [])
                self.pending = [prompt_id for prompt_id in self.pending if prompt_id not in gone]
                return web.Response()
            case "POST", ["interrupt"]:
                target = json.loads(body)["prompt_id"]
                self.running = [prompt_id for prompt_id in self.running if prompt_id != target]
                return web.Response()
            case "POST", ["free"]:
                return web.Response()
            case "GET", ["history", prompt_id]:
                entry = self.histories.get(prompt_id)
                return web.json_response({} if entry is None else {prompt_id: entry})
            case _:
                return web.Response(status=404)

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        if self.refuses_sockets is not None:
            return await self.refuses_sockets(request)
        socket = web.WebSocketResponse(autoping=self.answers_pings, max_msg_size=0)
        await socket.prepare(request)
        client_id = request.query["clientId"]
        headers = {name.lower(): value for name, value in request.headers.items()}
        connection = Connection(
            client_id=client_id, query=dict(request.query), headers=headers, socket=socket
        )
        self.sockets[client_id] = connection
        try:
            if self.greets:
                status = {"exec_info": {"queue_remaining": 0}}
                data = {"status": status, "sid": client_id}
                await socket.send_str(json.dumps({"type": "status", "data": data}))
            self.connections.put_nowait(connection)
            if not self.answers_closes:
                await self._hang.wait()  # reads nothing more
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    connection.received.append(json.loads(message.data))
        finally:
            self.sockets.pop(client_id, None)  # whoever holds the id by now
            connection.ended.set()
        return socket


def reply(body: Any, *, status: int = 200) -> Answer:
    """JSON, or bytes and text as they are."""

    async def answer(_: web.Request) -> web.StreamResponse:
        if isinstance(body, bytes):
            return web.Response(body=body, status=status, content_type="application/octet-stream")
        if isinstance(body, str):
            return web.Response(text=body, status=status)
        return web.json_response(body, status=status)

    return answer


def html(status: int = 200) -> Answer:
    """What a login page or a proxy says."""

    async def answer(_: web.Request) -> web.StreamResponse:
        text = "<!doctype html><title>Sign in</title>"
        return web.Response(text=text, status=status, content_type="text/html")

    return answer


def half(body: bytes = b'{"queue_running": [], ') -> Answer:
    """An answer that promises more than it sends before the connection breaks."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(body) + 100)})
        await response.prepare(request)
        await response.write(body)
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


def in_turn(*answers: Answer) -> Answer:
    """Each once; the last one from then on."""
    waiting = list(answers)

    async def answer(request: web.Request) -> web.StreamResponse:
        chosen = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return await chosen(request)

    return answer


async def cut(request: web.Request) -> web.StreamResponse:
    """The connection breaks before any answer."""
    assert request.transport is not None
    request.transport.abort()
    raise web.HTTPServiceUnavailable
