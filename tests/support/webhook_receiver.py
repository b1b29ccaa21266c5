"""A receiver of webhooks that keeps what it got, and answers as a test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer


@dataclass(slots=True)
class Received:
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Receiver:
    """`answers` gives the status of each answer; 0: the connection is cut, -1: there is no answer.
    `retry_after`: that header of each."""

    answers: Callable[[], int] = lambda: 204
    got: list[Received] = field(default_factory=list)
    url: str = ""
    retry_after: str | None = None
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self, request: web.Request) -> web.Response:
        body, status = await request.read(), self.answers()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append(Received(headers, body, status))
        self._more.set()
        if status == -1:
            await asyncio.Event().wait()  # until the client has gone
        if status == 0 and request.transport is not None:
            request.transport.abort()
        more = {} if self.retry_after is None else {"Retry-After": self.retry_after}
        return web.Response(status=status or 204, headers={"Location": "/elsewhere", **more})

    async def until(self, count: int) -> list[Received]:
        """That many requests, or more."""
        async with asyncio.timeout(30):
            while len(self.got) < count:
                self._more.clear()
                await self._more.wait()
        return self.got


@asynccontextmanager
async def receiving(answers: Callable[[], int] = lambda: 204) -> AsyncIterator[Receiver]:
    receiver = Receiver(answers)
    app = web.Application()
    app.router.add_post("/hook", receiver.receive)
    async with TestServer(app, handler_cancellation=True) as server:
        receiver.url = str(server.make_url("/hook"))
        yield receiver
