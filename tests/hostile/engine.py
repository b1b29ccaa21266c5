"""An engine, or what stands before one, that does one wrong thing. It runs every prompt at once.

`python -m tests.hostile` measures each mode: how long the bridge's event loop stood meanwhile.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import WSMsgType, web

from tests.support.certificates import loopback_certificate

HTML = "<!doctype html><title>Sign in</title><form>…</form>"
OUTPUTS = 30_000
TEXTS = 32
TEXT_CHARS = 900_000
STEPS = 20_000
DOTS = 20_000
LINES = 20_000
REFUSED = 5_000
MEASURED = {"OUTPUTS": 300_000, "STEPS": 200_000, "DOTS": 1_000_000, "LINES": 4_000_000, "REFUSED": 300_000}
"""As many where the time is measured; the tests ask for the bound only, and run with coverage."""


class Mode(StrEnum):
    WELL = "well"
    # --- the way to it
    SOCKET_502 = "its socket is refused by a proxy (502)"
    SOCKET_200 = "its socket is answered with a page (200)"
    SOCKET_401 = "its socket wants other credentials (401)"
    SOCKET_ELSEWHERE = "its socket is redirected to another host"
    SOCKET_MUTE = "its socket opens and says nothing"
    CREDENTIALS = "everything is 401"
    LOGIN_PAGE = "everything is a login page (200)"
    LOGIN_REDIRECT = "everything is a redirect to a login page"
    GATEWAY = "everything is 502"
    UNTRUSTED = "its certificate is its own"
    EXPIRED = "its certificate has expired"
    OTHER_NAME = "its certificate is another host's"
    POST_TOO_LARGE = "a POST is 413"
    UPLOADS_UNREAD = "an upload is not read"
    # --- what it says of its nodes
    NODES_PAGE = "/object_info is a page"
    NODES_NONE = "/object_info is empty"
    NODES_BROKEN = "/object_info has broken declarations"
    # --- what it says of prompts
    IDLE = "its worker is dead: prompts wait for ever"
    HALF_CHARACTER = "texts and names with half a character"
    HISTORY_TOO_LARGE = "a history of more than 64 MiB"
    HISTORY_ENDLESS = "a history without an end"
    HISTORY_500 = "a history that is always 500"
    HISTORY_SHAPE = "a history of another shape"
    RUNS_FOR_EVER = "a prompt that it says runs for ever, and hears no cancel"
    MANY_OUTPUTS = "very many outputs"
    LONG_TEXTS = "32 texts of 0.9 MB"
    NO_BRACES = 'a frame of 5.4 MB of "state": "running" without braces'
    STEPS = "very many progress events"
    DOTS = "a node whose name is very many dots"
    LONG_ERROR = "a history with an error of very many lines"
    LONG_REFUSAL = "a refusal that names very many nodes"


SOCKETS: dict[Mode, Callable[[str], web.Response]] = {
    Mode.SOCKET_502: lambda _url: web.Response(status=502),
    Mode.SOCKET_200: lambda _url: web.Response(text=HTML, content_type="text/html"),
    Mode.SOCKET_401: lambda _url: web.Response(status=401),
    Mode.SOCKET_ELSEWHERE: lambda url: web.Response(status=302, headers={"Location": url}),
}
EVERYTHING: dict[Mode, Callable[[], web.Response]] = {
    Mode.CREDENTIALS: lambda: web.Response(status=401),
    Mode.LOGIN_PAGE: lambda: web.Response(text=HTML, content_type="text/html"),
    Mode.LOGIN_REDIRECT: lambda: web.Response(status=302, headers={"Location": "/login"}),
    Mode.GATEWAY: lambda: web.Response(status=502),
}
CERTIFICATES: dict[Mode, dict[str, Any]] = {
    Mode.UNTRUSTED: {},
    Mode.EXPIRED: {"days": -1},
    Mode.OTHER_NAME: {"address": "192.0.2.1"},
}
"""Of an engine that speaks TLS."""
NODES: dict[str, Any] = {
    "EmptyImage": {
        "input": {"required": {"width": ["INT", {}], "height": ["INT", {}]}},
        "output": ["IMAGE"],
        "output_name": ["IMAGE"],
    },
    "LoadImage": {"input": {"required": {"image": [["b.png"], {"image_upload": True}]}}, "output": ["IMAGE"]},
    "SaveImage": {
        "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}},
        "output": [],
        "output_node": True,
    },
}
GRAPH: dict[str, Any] = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
}
BROKEN = {
    "A": {"input": {"required": {"n": [{"x": 1}]}}},
    "B": {"input": {"required": {"n": ["INT", {"widgetType": ["a"]}]}}},
    "C": {"input": {"required": ["n"]}},
    "D": {"input": None, "output": 5},
    "E": {"input": {"required": {"n": [["a", {"b": 1}, None]]}, "optional": 3}, "output": [["a"], None]},
    "F": [],
    "G": {"input": {"required": {"n": []}}, "input_order": {"required": [1, None]}},
}
PICTURE = {"2": {"images": [{"filename": "a_00001_.png", "subfolder": "", "type": "output"}]}}


def outputs_of(mode: Mode) -> dict[str, Any]:
    match mode:
        case Mode.HALF_CHARACTER:
            file = {"filename": "half \ud83d.png", "subfolder": "\udce9", "type": "output"}
            return {"2": {"text": ["half \ud83d", "nul \0"], "images": [file]}}
        case Mode.MANY_OUTPUTS:
            names = (f"a_{n:06}_.png" for n in range(OUTPUTS))
            return {
                "2": {"images": [{"filename": each, "subfolder": "", "type": "output"} for each in names]}
            }
        case Mode.LONG_TEXTS:
            return {"2": {"text": [f"{n:02}" + "x" * TEXT_CHARS for n in range(TEXTS)]}}
        case _:
            return PICTURE


def status_of(mode: Mode) -> dict[str, Any]:
    if mode is not Mode.LONG_ERROR:
        return {"status_str": "success", "completed": True, "messages": []}
    error = {"node_id": "1" * LINES, "node_type": "A" * LINES, "exception_message": "/a b\n" * LINES}
    return {"status_str": "error", "completed": False, "messages": [["execution_error", error]]}


def refusal() -> web.Response:
    each = {"errors": [{"message": "no", "details": "x"}], "dependent_outputs": ["2"], "class_type": "A"}
    error = {"type": "prompt_outputs_failed_validation", "message": "no", "details": ""}
    nodes = {str(number): each for number in range(REFUSED)}
    return web.json_response({"error": error, "node_errors": nodes}, status=400)


def frames_of(mode: Mode) -> list[str]:
    """Sent before a prompt's end, whoever they are about."""
    match mode:
        case Mode.NO_BRACES:
            return ['{"type": "progress_state", "data": ' + '"state": "running" ' * 284_000]
        case Mode.STEPS:
            data = {"max": STEPS, "node": "1", "prompt_id": "PROMPT"}
            return [json.dumps({"type": "progress", "data": {"value": n, **data}}) for n in range(STEPS)]
        case Mode.DOTS:
            data = {"node": f"1{'.' * DOTS}1", "prompt_id": "PROMPT"}
            return [json.dumps({"type": "executing", "data": data})]
        case _:
            return []


@dataclass(eq=False)
class HostileEngine:
    """`posted` are the prompts in their order; `asked` counts the requests to each path; `strangers` are the
    headers of requests that came to the other host; `uploads` are those that it holds now."""

    mode: Mode
    tasks: asyncio.TaskGroup
    url: str = ""
    posted: list[str] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    strangers: list[dict[str, str]] = field(default_factory=list)
    uploads: int = 0
    most_uploads: int = 0
    sockets: dict[str, web.WebSocketResponse] = field(default_factory=dict)
    elsewhere: str = ""
    healed: bool = False
    certificate: str = ""

    def __post_init__(self) -> None:
        outputs = outputs_of(self.mode)
        self._entry = json.dumps({"outputs": outputs, "status": status_of(self.mode)}).encode()
        self._executed = json.dumps(
            {"type": "executed", "data": {"node": "2", "output": outputs["2"], "prompt_id": "PROMPT"}}
        )
        self._frames = frames_of(self.mode)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        about = path.partition("/history/")[0] or "/history" if path.startswith("/history/") else path
        self.asked[about] = self.asked.get(about, 0) + 1
        if not self.healed and self.mode in EVERYTHING:
            return EVERYTHING[self.mode]()
        match request.method, path:
            case "GET", "/ws":
                return await self._socket(request)
            case "POST", "/prompt":
                return await self._prompt(request)
            case "POST", "/upload/image" if self.mode is Mode.UPLOADS_UNREAD:
                return await self._upload(request)
            case "GET", "/prompt":
                return web.json_response({"exec_info": {"queue_remaining": len(self._waiting())}})
            case "GET", "/queue":
                held = [[n, prompt, {}, {}, []] for n, prompt in enumerate(self._waiting())]
                runs = self.mode is Mode.RUNS_FOR_EVER
                lists = {"queue_running": held if runs else [], "queue_pending": [] if runs else held}
                return web.json_response(lists)
            case "GET", "/object_info":
                return self._nodes()
            case "GET", "/system_stats":
                return web.json_response({"system": {"comfyui_version": "0.33.0"}, "devices": []})
            case "GET", _ if path.startswith("/history/"):
                return await self._history(request, path.rpartition("/")[2])
            case _:
                return web.Response(status=404 if request.method != "POST" else 200)

    def _waiting(self) -> list[str]:
        return self.posted if self.mode in {Mode.IDLE, Mode.RUNS_FOR_EVER} else []

    def _nodes(self) -> web.Response:
        match self.mode:
            case Mode.NODES_PAGE:
                return web.Response(text=HTML, content_type="text/html")
            case Mode.NODES_NONE:
                return web.json_response({})
            case Mode.NODES_BROKEN:
                return web.json_response(NODES | BROKEN)
            case _:
                return web.json_response(NODES)

    async def _prompt(self, request: web.Request) -> web.Response:
        if self.mode is Mode.POST_TOO_LARGE:
            return web.Response(status=413, text=HTML, content_type="text/html")
        if self.mode is Mode.LONG_REFUSAL:
            return refusal()
        body = json.loads(await request.read())
        self.posted.append(body["prompt_id"])
        if self.mode not in {Mode.IDLE, Mode.RUNS_FOR_EVER}:
            self.tasks.create_task(self._run(body["prompt_id"], body["client_id"]))
        return web.json_response({"prompt_id": body["prompt_id"], "number": 1, "node_errors": {}})

    async def _upload(self, request: web.Request) -> web.Response:
        self.uploads += 1
        self.most_uploads = max(self.uploads, self.most_uploads)
        try:
            while not self.healed:
                await asyncio.sleep(0.01)
        finally:
            self.uploads -= 1
        form = await request.post()
        file = form["image"]
        assert isinstance(file, web.FileField)
        return web.json_response({"name": file.filename, "subfolder": form["subfolder"], "type": "input"})

    async def _run(self, prompt_id: str, client_id: str) -> None:
        socket = self.sockets.get(client_id)
        if socket is None:
            return
        about = {"prompt_id": prompt_id}
        # Of a history that can't be read nothing is told but the end of the run.
        silent = self.mode.startswith("a history")
        messages = [] if silent else [json.dumps({"type": "execution_start", "data": about})]
        messages += [frame.replace("PROMPT", prompt_id) for frame in self._frames]
        messages += [] if silent else [self._executed.replace("PROMPT", prompt_id)]
        messages += [] if silent else [json.dumps({"type": "execution_success", "data": about})]
        messages += [json.dumps({"type": "executing", "data": {"node": None, **about}})]
        for message in messages:
            await socket.send_str(message)

    async def _history(self, request: web.Request, prompt_id: str) -> web.StreamResponse:
        if prompt_id not in self.posted or prompt_id in self._waiting():
            return web.json_response({})
        match self.mode:
            case Mode.HISTORY_500:
                return web.Response(status=500, text="500: Internal Server Error")
            case Mode.HISTORY_SHAPE:
                return web.json_response({prompt_id: ["no", "entry"]})
            case Mode.HISTORY_TOO_LARGE | Mode.HISTORY_ENDLESS:
                response = web.StreamResponse(headers={"Content-Type": "application/json"})
                await response.prepare(request)
                piece = b'{"x": "' + b"x" * 2**20
                while True:
                    await response.write(piece)
                    await asyncio.sleep(0.2 if self.mode is Mode.HISTORY_ENDLESS else 0)
            case _:
                body = b'{"' + prompt_id.encode() + b'": ' + self._entry + b"}"
                return web.Response(body=body, content_type="application/json")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self.mode in SOCKETS and not self.healed:
            return SOCKETS[self.mode](self.elsewhere)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client_id = request.query["clientId"]
        if self.mode is not Mode.SOCKET_MUTE or self.healed:
            self.sockets[client_id] = socket
            data = {"status": {"exec_info": {"queue_remaining": 0}}, "sid": client_id}
            await socket.send_str(json.dumps({"type": "status", "data": data}))
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                break
        self.sockets.pop(client_id, None)
        return socket

    async def stranger(self, request: web.Request) -> web.Response:
        """The other host: nobody should come."""
        self.strangers.append(dict(request.headers))
        return web.Response(status=403)


@asynccontextmanager
async def hostile_engine(mode: Mode) -> AsyncIterator[HostileEngine]:
    runners = []
    async with asyncio.TaskGroup() as tasks:
        engine = HostileEngine(mode, tasks)
        tls = _tls(engine)
        for handler in (engine.stranger, engine.handle):
            app = web.Application(client_max_size=2**30)
            app.router.add_route("*", "/{path:.*}", handler)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            scheme = "http" if tls is None else "https"
            engine.elsewhere, engine.url = engine.url, f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
            runners.append(runner)
        try:
            yield engine
        finally:
            for runner in runners:
                await runner.cleanup()


def _tls(engine: HostileEngine) -> ssl.SSLContext | None:
    if engine.mode not in CERTIFICATES:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with TemporaryDirectory() as folder:
        made = loopback_certificate(Path(folder), **CERTIFICATES[engine.mode])
        context.load_cert_chain(made)
        engine.certificate = made.read_text()
    return context
