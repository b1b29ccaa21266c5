"""Starts and stops the embedded engine: the HTTP server in this event loop, the nodes in one thread."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from comfy_mcp.embedded.config import EngineConfig
from comfy_mcp.embedded.directories import Directories
from comfy_mcp.embedded.execution import Worker
from comfy_mcp.embedded.execution_log import open_execution_log
from comfy_mcp.embedded.nodes import NODE_TYPES, NodeType
from comfy_mcp.embedded.prompts import PromptQueue
from comfy_mcp.embedded.routes_files import FileRoutes
from comfy_mcp.embedded.routes_info import ENGINE_NAME, InfoRoutes
from comfy_mcp.embedded.routes_prompt import PromptRoutes
from comfy_mcp.embedded.routes_user import UserRoutes
from comfy_mcp.embedded.sockets import SocketHub
from comfy_mcp.embedded.state import State

_log = logging.getLogger(__name__)
_SHUTDOWN_SECONDS = 5.0


class EmbeddedEngine:
    """A ComfyUI-compatible server for model-free nodes.

    `async with EmbeddedEngine(EngineConfig(base_directory=...)) as engine: engine.url`. Two of them may live
    in one process. The loop never waits for a node.
    """

    def __init__(self, config: EngineConfig, nodes: Mapping[str, NodeType] = NODE_TYPES) -> None:
        """`nodes`: the classes that it has, by name."""
        self._config = config
        self._nodes = nodes
        self._runner: web.AppRunner | None = None
        self._thread: threading.Thread | None = None
        self._state: State | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port that the server listens on; raises RuntimeError before start()."""
        if not self._port:
            raise RuntimeError("The engine is not started: use `async with` or await start() first.")
        return self._port

    @property
    def url(self) -> str:
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Listen and begin to work. Raises OSError when the port is in use."""
        directories = Directories(self._config.base_directory.resolve())
        directories.create()
        hub: SocketHub
        queue = PromptQueue(
            self._config.history_limit,
            lambda: hub.send("status", {"status": state.exec_info()}, None),
            open_execution_log(self._config.execution_log),
        )
        hub = SocketHub(self._config, lambda: state.exec_info())
        worker = Worker(self._config, directories, self._nodes, queue, hub)
        recorded, without = self._config.object_info, self._config.without
        state = State(
            config=self._config,
            directories=directories,
            nodes={
                name: node
                for name, node in self._nodes.items()
                if (recorded is None or name in recorded) and name not in without
            },
            queue=queue,
            hub=hub,
        )
        self._state = state
        runner = web.AppRunner(_application(state), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        self._runner = runner
        try:
            site = web.TCPSite(runner, self._config.host, self._config.port)
            await site.start()
        except OSError:
            await self.stop()
            raise
        self._port = runner.addresses[0][1]
        self._thread = threading.Thread(target=worker.loop, name="embedded-engine", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Interrupt what runs, close the sockets and the server. Safe to call twice."""
        state, runner, thread = self._state, self._runner, self._thread
        self._state = self._runner = self._thread = None
        self._port = 0
        if state is not None:
            state.queue.close()
            if thread is not None:
                await asyncio.to_thread(thread.join, _SHUTDOWN_SECONDS)
            state.hub.close()
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def serve(config: EngineConfig, *, ready: Callable[[str], None] | None = None) -> None:
    """Run an engine until SIGTERM or SIGINT. `ready` is called once with the URL."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    try:
        async with EmbeddedEngine(config) as engine:
            if ready is not None:
                ready(engine.url)
            await done.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _application(state: State) -> web.Application:
    app = web.Application(middlewares=[_same_origin_only], client_max_size=state.config.max_upload_bytes)
    routes = [
        *PromptRoutes(state).routes(),
        *FileRoutes(state).routes(),
        *InfoRoutes(state).routes(),
        *UserRoutes(state).routes(),
        web.get("/ws", state.hub.handle),
    ]
    app.add_routes(routes)
    app.add_routes([web.route(r.method, f"/api{r.path}", r.handler, **r.kwargs) for r in routes])
    app.add_routes([web.get("/", _about), web.get("/{tail:.*}", _nothing_here)])
    return app


@web.middleware
async def _same_origin_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse pages of other origins: a site that somebody visits must not reach the engine on loopback."""
    if request.method == "OPTIONS":
        return web.Response()
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
        return web.Response(status=403)
    return await handler(request)


async def _about(_: web.Request) -> web.Response:
    return web.Response(text=f"{ENGINE_NAME}. It speaks ComfyUI's protocol and is not ComfyUI.\n")


async def _nothing_here(_: web.Request) -> web.Response:
    """ComfyUI's front end answers for unknown paths: an empty 404, and 405 for other methods."""
    return web.Response(status=404, content_type="application/octet-stream")
