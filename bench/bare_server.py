"""The least that an aiohttp server can do: `python -m bench.bare_server` prints its URL and serves.

GET /status answers with JSON, POST /submit reads JSON and answers with some, GET /fan is a WebSocket to which
every text that comes to POST /tell is sent.
"""

import asyncio
import json
import sys
from typing import Any

from aiohttp import web

STATUS = {
    "workflowId": "0c5b6f0e-6d1c-4a39-9f53-7f4a4c1f2a10",
    "status": "completed",
    "progress": 100.0,
    "currentNode": None,
    "startTime": 1795500000000,
    "completionTime": 1795500000100,
    "outputs": [{"filename": "p_00001_.png", "type": "image", "size": 200, "url": "/output/1"}],
    "error": None,
}
"""About what a finished workflow looks like."""


class Listeners:
    """The open sockets of /fan."""

    def __init__(self) -> None:
        self.sockets: set[Any] = set()


LISTENERS = web.AppKey("listeners", Listeners)


async def _status(_: web.Request) -> web.Response:
    return web.json_response(STATUS)


async def _submit(request: web.Request) -> web.Response:
    body = json.loads(await request.read())
    return web.json_response({"status": "queued", "members": len(body)}, status=202)


async def _fan(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    request.app[LISTENERS].sockets.add(socket)
    try:
        async for _ in socket:
            pass
    finally:
        request.app[LISTENERS].sockets.discard(socket)
    return socket


async def _tell(request: web.Request) -> web.Response:
    text = await request.text()
    for socket in list(request.app[LISTENERS].sockets):
        await socket.send_str(text)
    return web.Response()


async def main() -> None:
    app = web.Application()
    app[LISTENERS] = Listeners()
    app.add_routes(
        [
            web.get("/status", _status),
            web.post("/submit", _submit),
            web.get("/fan", _fan),
            web.post("/tell", _tell),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
