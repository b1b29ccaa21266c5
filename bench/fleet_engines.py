"""Many simulated engines in one process: `python -m bench.fleet_engines COUNT SECONDS`.

It prints its URL; engine N is at URL/N. A prompt takes SECONDS, in which its engine sends ten events a
second, and has one output. Nothing is computed, so that what is measured is the bridges. POST /told returns,
by prompt, when its engine sent `execution_success`, in ms of the clock that all processes of a machine share.
"""

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

from aiohttp import web

from bench.processes import REPOSITORY

EVENTS_PER_S = 10
PICTURE = {"filename": "fleet_00001_.png", "subfolder": "", "type": "output"}
NODES = json.loads((REPOSITORY / "tests" / "data" / "object_info_excerpt.json").read_text(encoding="utf-8"))
OBJECT_INFO = {name: NODES[name] for name in ("EmptyImage", "SaveImage")}


class SimulatedEngine:
    def __init__(self, seconds: float, told: dict[str, float]) -> None:
        self._seconds = seconds
        self._told = told
        self._pending: list[str] = []
        self._running: str | None = None
        self._ended: dict[str, Any] = {}
        self._work = asyncio.Event()
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._of: dict[str, str] = {}

    async def run(self) -> None:
        while True:
            while not self._pending:
                self._work.clear()
                await self._work.wait()
            self._running = self._pending.pop(0)
            await self._execute(self._running)
            self._running = None

    async def _execute(self, prompt_id: str) -> None:
        begin, steps = time.monotonic(), max(1, round(self._seconds * EVENTS_PER_S))
        await self._send(prompt_id, "execution_start", timestamp=0)
        await self._send(prompt_id, "execution_cached", nodes=[], timestamp=0)
        await self._send(prompt_id, "executing", node="1", display_node="1")
        for step in range(1, steps + 1):
            await asyncio.sleep(begin + step * self._seconds / steps - time.monotonic())
            await self._send(prompt_id, "progress", node="1", value=step, max=steps)
        await self._send(prompt_id, "executing", node="2", display_node="2")
        output = {"images": [PICTURE]}
        await self._send(prompt_id, "executed", node="2", display_node="2", output=output)
        self._ended[prompt_id] = {
            "prompt": [0, prompt_id, {}, {}, ["2"]],
            "outputs": {"2": output},
            "status": {"status_str": "success", "completed": True, "messages": []},
        }
        self._told[prompt_id] = time.monotonic() * 1000
        await self._send(prompt_id, "execution_success", timestamp=0)
        await self._send(prompt_id, "executing", node=None)

    async def _send(self, prompt_id: str, kind: str, **data: Any) -> None:
        socket = self._sockets.get(self._of[prompt_id])
        if socket is None or socket.closed:
            return
        with contextlib.suppress(ConnectionError):  # its bridge was killed just now
            await socket.send_str(json.dumps({"type": kind, "data": {"prompt_id": prompt_id, **data}}))

    async def ws(self, request: web.Request) -> web.WebSocketResponse:
        socket, client = web.WebSocketResponse(), request.query["clientId"]
        await socket.prepare(request)
        self._sockets[client] = socket
        status = {"exec_info": {"queue_remaining": len(self._pending)}}
        await socket.send_str(json.dumps({"type": "status", "data": {"status": status, "sid": client}}))
        async for _ in socket:
            pass
        return socket

    async def answer(self, request: web.Request) -> web.Response:
        path = request.match_info["path"].removeprefix("api/")
        match request.method, path.split("/"):
            case "POST", ["prompt"]:
                body = await request.json()
                self._pending.append(body["prompt_id"])
                self._of[body["prompt_id"]] = body["client_id"]
                self._work.set()
                return web.json_response({"prompt_id": body["prompt_id"], "number": 1, "node_errors": {}})
            case "GET", ["prompt"]:
                count = len(self._pending) + (self._running is not None)
                return web.json_response({"exec_info": {"queue_remaining": count}})
            case "GET", ["queue"]:
                running = [] if self._running is None else [[0, self._running, {}, {}, []]]
                pending = [[0, prompt_id, {}, {}, []] for prompt_id in self._pending]
                return web.json_response({"queue_running": running, "queue_pending": pending})
            case "GET", ["history", prompt_id]:
                entry = self._ended.get(prompt_id)
                return web.json_response({} if entry is None else {prompt_id: entry})
            case "GET", ["object_info"]:
                return web.json_response(OBJECT_INFO)
            case (("GET" | "HEAD"), ["view"]):
                return web.Response(body=b"png" * 100, content_type="image/png")
            case _:
                return web.Response(status=404)


async def main(count: int, seconds: float) -> None:
    told: dict[str, float] = {}
    engines = [SimulatedEngine(seconds, told) for _ in range(count)]

    def of(request: web.Request) -> SimulatedEngine:
        return engines[int(request.match_info["engine"])]

    async def ws(request: web.Request) -> web.StreamResponse:
        return await of(request).ws(request)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await of(request).answer(request)

    async def all_told(_: web.Request) -> web.Response:
        return web.json_response(told)

    app = web.Application(client_max_size=2**24)
    app.router.add_post("/told", all_told)
    app.router.add_get("/{engine}/ws", ws)
    app.router.add_route("*", "/{engine}/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    async with asyncio.TaskGroup() as group:
        for engine in engines:
            group.create_task(engine.run())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
