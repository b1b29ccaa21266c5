"""An engine with files to view that does little else, and a sidecar with outputs that are there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web
from aiohttp.test_utils import TestServer

from comfy_mcp.domain.catalog import Output, OutputKind
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.operations.services import Services
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Lease
from http_sidecar.bounds import Bounds
from tests.support.jobs import GRAPH, completed, new_prompt_id, output_of_job, queued_event, started
from tests.support.sidecar import Sidecar, serving

NAME = "engine"
PIECE = 64 * 1024
PATH = "/v1/comfyui/output"


class Bytes(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Zeros:
    """So many zero bytes that nobody holds in memory."""

    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self.size)
        return bytes(stop - start)


@dataclass(kw_only=True)
class FilesEngine:
    """`sent`: bytes of bodies that its /view has written. `asked`: the Range header of each request.

    `idle`: no request is being answered. `tags`: ETags of files that were written long ago.
    `ends_after`: after so many bytes of a body the connection breaks. `pauses_after`: nothing follows them.
    """

    files: dict[str, Bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    ends_after: int | None = None
    pauses_after: int | None = None
    sent: int = 0
    asked: list[str | None] = field(default_factory=list)
    open_now: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    async def view(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.headers.get("Range"))
        content = self.files.get(request.query["filename"])
        if content is None:
            raise web.HTTPNotFound
        start, stop, _ = request.http_range.indices(len(content))
        if start >= stop and "Range" in request.headers:
            raise web.HTTPRequestRangeNotSatisfiable
        response = web.StreamResponse(status=206 if "Range" in request.headers else 200)
        response.content_length = stop - start
        if response.status == 206:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        if (tag := self.tags.get(request.query["filename"])) is not None:
            response.headers.update({"ETag": tag, "Last-Modified": "Tue, 24 Nov 2020 00:00:00 GMT"})
        await response.prepare(request)
        if request.method == "GET":
            self.open_now += 1
            self.idle.clear()
            try:
                await self._write(request, response, content, start, stop)
            finally:
                self.open_now -= 1
                if not self.open_now:
                    self.idle.set()
        return response

    async def _write(
        self, request: web.Request, response: web.StreamResponse, content: Bytes, start: int, stop: int
    ) -> None:
        for at in range(start, stop, PIECE):
            if self.ends_after is not None and at - start >= self.ends_after:
                assert request.transport is not None
                request.transport.close()
                return
            if self.pauses_after is not None and at - start >= self.pauses_after:
                await asyncio.Event().wait()
            await response.write(content[at : min(at + PIECE, stop)])
            self.sent += min(PIECE, stop - at)

    async def upload(self, request: web.Request) -> web.Response:
        """Takes any file and keeps none."""
        while await request.content.readany():
            pass
        return web.json_response({"name": "kept.bin", "subfolder": "", "type": "input"})

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Its URL."""
        app = web.Application()
        app.router.add_get("/view", self.view)
        app.router.add_post("/upload/image", self.upload)
        async with TestServer(app) as server:
            yield str(server.make_url("")).rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputHouse:
    v1: Sidecar
    engine: FilesEngine
    lease: Lease

    async def add(
        self,
        name: str,
        content: Bytes | None,
        *,
        size: int | None = None,
        kind: OutputKind = OutputKind.IMAGE,
    ) -> Output:
        """An output of a job of its own. Without `content` its file is gone."""
        if content is not None:
            self.engine.files[name] = content
        return await record_output(self.v1.services, self.lease, name, size=size, kind=kind)

    async def get(self, name: str, **headers: str) -> Any:
        return await self.v1(
            "GET", f"{PATH}/{name}", headers={k.replace("_", "-"): v for k, v in headers.items()}
        )


async def record_output(
    services: Services,
    lease: Lease,
    name: str,
    *,
    size: int | None = None,
    kind: OutputKind = OutputKind.IMAGE,
) -> Output:
    """Write down that a job made the file `name`."""
    store = services.store
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=1_000)
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1_500)
    assert claim is not None
    output = output_of_job(claim.job, name, size=size, kind=kind)
    job = await store.record(lease, job.id, (started(claim.job),))
    await store.record(lease, job.id, (completed(job, output_count=1),), outputs=(output,))
    return output


@asynccontextmanager
async def open_output_house(
    folder: Path,
    *,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
    **overrides: Any,
) -> AsyncIterator[OutputHouse]:
    engine = FilesEngine()
    async with engine.listening() as url:
        defaults = {
            "engine_urls": f"{NAME}={url}",
            "state_dir": folder / "state",
            "rate_limit_per_minute": 0,
            "retention_days": 0,  # the jobs ended in 1970
        }
        settings = load_settings(**(defaults | overrides))
        async with open_runtime(settings, drive=False) as services:
            lease = await services.store.acquire_lease(EngineId(NAME), "test", 3_600)
            assert lease is not None
            async with serving(services, settings, bounds) as v1:
                yield OutputHouse(v1=v1, engine=engine, lease=lease)
