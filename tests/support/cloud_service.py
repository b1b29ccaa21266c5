"""Two services that run workflows, on one port: SaladCloud's job queue and Comfy API v2. They outlive the
bridges, so that what they ran is known.

A job runs for some tenths of a second once it was created, and makes one picture. `meddle` decides what
becomes of a request.
"""

import base64
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from uuid import uuid4

from aiohttp import web
from aiohttp.test_utils import TestServer

SALAD, COMFY_API = "salad", "comfy-api-v2"
SALAD_JOBS = "/api/public/organizations/org/projects/pictures/queues/comfy/jobs"
COMFY_JOBS = "/api/v2/jobs"
PNG = b"\x89PNG\r\n\x1a\n picture"
WAITS_S, RUNS_S = 0.1, 0.4


class Meddle(Enum):
    """What becomes of a request: refused, not arrived, or done without an answer."""

    NOTHING = "nothing"
    BUSY = "busy"
    BROKEN = "broken"
    UNSEEN = "unseen"
    UNANSWERED = "unanswered"


@dataclass(slots=True)
class CloudRun:
    lane: str
    prompt_id: str
    id: str = field(default_factory=lambda: str(uuid4()))
    created_ms: int = field(default_factory=lambda: round(time.time() * 1000))
    began: float = field(default_factory=time.monotonic)
    cancelled: bool = False

    @property
    def over(self) -> bool:
        return time.monotonic() - self.began > WAITS_S + RUNS_S

    @property
    def status(self) -> str:
        if self.cancelled:
            return "cancelled" if self.lane == SALAD else "canceled"
        if self.over:
            return "succeeded"
        waits = time.monotonic() - self.began < WAITS_S
        return ("pending" if self.lane == SALAD else "queued") if waits else "running"

    def shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": self.id, "status": self.status}
        if self.lane == SALAD:
            picture = {"images": [base64.b64encode(PNG).decode()], "filenames": ["a_1.png"]}
            return shown | ({"output": picture} if self.status == "succeeded" else {})
        url = f"{COMFY_JOBS}/{self.id}"
        outputs = [{"name": "a_1.png", "node_id": "2", "url": f"{url}/output"}]
        shown |= {"urls": {"self": url}, "metrics": {"execution_ms": round(RUNS_S * 1000)}}
        return shown | {"outputs": outputs if self.status == "succeeded" else []}


class CloudService:
    """`runs` in the order of their creation."""

    def __init__(self) -> None:
        self.runs: list[CloudRun] = []
        self.meddle: Callable[[str], Meddle] = lambda _method: Meddle.NOTHING
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        what = self.meddle(request.method)
        if what is Meddle.BUSY:
            return web.json_response({}, status=429, headers={"Retry-After": "0"})
        if what is Meddle.BROKEN:
            return web.Response(text="<html>", status=502)
        answer = None if what is Meddle.UNSEEN else await self._answer(request)
        if answer is None or what is Meddle.UNANSWERED:
            assert request.transport is not None
            request.transport.abort()
        return answer or web.Response()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        lane, name = (
            (SALAD if request.path.startswith(SALAD_JOBS) else COMFY_API),
            request.match_info.get("id"),
        )
        if name is None:
            return await self._create(lane, request) if request.method == "POST" else self._listed(request)
        run = next((run for run in self.runs if (run.lane, run.id) == (lane, name)), None)
        if run is None:
            return web.json_response({"title": "Not Found"}, status=404)
        if request.path.endswith("/output"):
            return web.Response(body=PNG)
        if request.method == "DELETE" or request.path.endswith("/cancel"):
            run.cancelled |= not run.over
        return web.json_response(run.shown())

    async def _create(self, lane: str, request: web.Request) -> web.StreamResponse:
        """Only the second one knows keys for repeats."""
        prompt_id = (await request.json())["metadata"]["comfy_bridge"]
        known = [run for run in self.runs if (run.lane, run.prompt_id) == (lane, prompt_id)]
        if lane == SALAD or not known:
            known = [CloudRun(lane, prompt_id)]
            self.runs += known
        return web.json_response(known[0].shown(), status=201)

    def _listed(self, request: web.Request) -> web.StreamResponse:
        label = request.query.get("metadata[comfy_bridge]")
        found = [run.shown() for run in self.runs if run.lane == COMFY_API and run.prompt_id == label]
        return web.json_response({"jobs": found})

    def unfindable(self, known: Collection[str]) -> set[str]:
        """Prompts at the first one, which finds nothing by what it was sent with, but for those whose ids are
        `known`."""
        return {run.prompt_id for run in self.runs if run.lane == SALAD and run.prompt_id not in known}


@asynccontextmanager
async def open_cloud_service() -> AsyncIterator[CloudService]:
    service = CloudService()
    app = web.Application(client_max_size=2**26)
    for path in (SALAD_JOBS, COMFY_JOBS):
        for more in ("", "/{id}", "/{id}/{what}"):
            app.router.add_route("*", f"{path}{more}", service.handle)
    async with TestServer(app) as server:
        service.url = str(server.make_url("")).rstrip("/")
        yield service
