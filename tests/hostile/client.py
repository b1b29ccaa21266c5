"""A client that means harm, one mode at a time. `python -m tests.hostile.client` measures what others notice.

Each mode does its worst against a sidecar while the context is open; `url` is the sidecar's.
"""

import asyncio
import contextlib
import io
import itertools
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from PIL import Image

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS, ApiKey, digest_of
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Store
from tests.hostile.bodies import BODIES, Body
from tests.hostile.connections import CONNECTIONS, SLOW, all_open, each_sends
from tests.hostile.crowds import CROWDS, MEAN
from tests.support.graphs import slow
from tests.support.serve_process import Served, serve_process
from tests.support.sidecar import WORKFLOW


@asynccontextmanager
async def _sockets(url: str, count: int) -> AsyncIterator[list[aiohttp.ClientWebSocketResponse]]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(headers=MEAN))
        stream = f"{url}/v1/comfyui/stream"
        yield [await stack.enter_async_context(session.ws_connect(stream)) for _ in range(count)]


@asynccontextmanager
async def replays(url: str) -> AsyncIterator[None]:
    """Ten sockets that ask for everything, a hundred times each."""
    async with _sockets(url, 10) as sockets:
        for socket in sockets:
            for _ in range(100):
                with contextlib.suppress(ConnectionError):
                    await socket.send_str('{"type":"subscribe","workflowId":"*","since":0}')
        yield


@asynccontextmanager
async def pings(url: str) -> AsyncIterator[None]:
    """Eight sockets with 20,000 pings each."""
    async with _sockets(url, 8) as sockets:
        for socket in sockets:
            with contextlib.suppress(ConnectionError):
                for _ in range(20_000):
                    await socket.ping()
        yield


def _noise(side: int) -> bytes:
    """A picture that is as large as a file as in memory."""
    made = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(made, "PNG")
    return made.getvalue()


@asynccontextmanager
async def _large_output(url: str) -> AsyncIterator[tuple[str, str]]:
    """The path of an output of 12 MB, and that of a link to it that needs no key."""
    async with aiohttp.ClientSession(url, headers=MEAN) as http:
        form = aiohttp.FormData({"image": io.BytesIO(_noise(2_000))})
        async with http.post("/v1/comfyui/inputs", data=form) as answer:
            name = (await answer.json())["name"]
        graph = {
            "1": {"class_type": "LoadImage", "inputs": {"image": name}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "large"}},
        }
        async with http.post(WORKFLOW, json={"workflow": graph}, headers={"Prefer": "wait=50"}) as answer:
            path = urlsplit((await answer.json())["outputs"][0]["url"]).path
        link = f"/api/v2/assets/{path.rpartition('/')[2]}"
        async with http.get(link) as answer:
            signed = urlsplit((await answer.json())["url"])
        yield path, f"{signed.path}?{signed.query}"


async def _read_slowly(stack: AsyncExitStack, url: str, path: str, headers: str = "") -> None:
    """Forty readers, of which each reads a kilobyte and then no more."""
    for reader, writer in await all_open(stack, url, SLOW):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        await reader.read(1024)


@asynccontextmanager
async def slow_readers(url: str) -> AsyncIterator[None]:
    """Of an output of 12 MB."""
    async with AsyncExitStack() as stack:
        path, _ = await stack.enter_async_context(_large_output(url))
        await _read_slowly(stack, url, path, "X-API-Key: mean\r\n")
        yield


@asynccontextmanager
async def slow_readers_of_a_link(url: str) -> AsyncIterator[None]:
    """Without a key."""
    async with AsyncExitStack() as stack:
        _, link = await stack.enter_async_context(_large_output(url))
        await _read_slowly(stack, url, link)
        yield


@asynccontextmanager
async def false_links(url: str) -> AsyncIterator[None]:
    """Signatures that are guessed, as fast as answers come."""
    path = "/api/v2/assets/12345678-1234-4234-8234-123456789abc/content?expires=9999999999&signature="
    async with _again_and_again(url, path, {}, None) as seen:
        yield
    assert seen <= {401, 403, 404, 429}, seen


@asynccontextmanager
async def previews(url: str) -> AsyncIterator[None]:
    """Of one large picture, again and again."""
    async with (
        _large_output(url) as (path, _),
        _again_and_again(url, f"{path}?preview=1024", MEAN, None),
    ):
        yield


@asynccontextmanager
async def slow_assets(url: str) -> AsyncIterator[None]:
    """Uploads by Comfy API v2 that stop."""
    head = (
        b"POST /api/v2/assets HTTP/1.1\r\nHost: localhost\r\nX-API-Key: mean\r\n"
        b"Content-Length: 1000000\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\nx'
    )
    async with each_sends(url, SLOW, head):
        yield


@asynccontextmanager
async def small_assets(url: str) -> AsyncIterator[None]:
    """Files of a few bytes by Comfy API v2, each another one, as fast as answers come."""
    numbers = itertools.count()

    async def send(http: aiohttp.ClientSession) -> None:
        while True:
            form = aiohttp.FormData()
            form.add_field("file", str(next(numbers)).encode(), filename="a.bin")
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with http.post("/api/v2/assets", data=form) as answer:
                    await answer.read()
                    assert answer.status == 201

    async with aiohttp.ClientSession(url, headers=MEAN) as http, asyncio.TaskGroup() as tasks:
        senders = [tasks.create_task(send(http)) for _ in range(4)]
        yield
        for sender in senders:
            sender.cancel()


@asynccontextmanager
async def silent_events(url: str) -> AsyncIterator[None]:
    """Streams of one job by Comfy API v2 that are never read."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(url, headers=MEAN))
        async with http.post(WORKFLOW, json={"workflow": slow(steps=20)}) as answer:
            job = (await answer.json())["workflowId"]
        for _, writer in await all_open(stack, url, 200):
            head = f"GET /api/v2/jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\nX-API-Key: mean\r\n\r\n"
            writer.write(head.encode())
        yield


@asynccontextmanager
async def page(url: str) -> AsyncIterator[None]:
    """The page and what it loads, without a key, as fast as answers come."""
    async with _again_and_again(url, "/", {}, None):
        yield


@asynccontextmanager
async def _again_and_again(
    url: str, path: str, headers: dict[str, str], body: Body | None, *, at_once: int = 4
) -> AsyncIterator[set[int]]:
    """`at_once` at a time send the same request while the context is open. The states of the answers."""
    seen = set[int]()
    given = dict(headers) | ({"Content-Type": body[0]} if body else {})
    method = "POST" if body else "GET"
    patience = aiohttp.ClientTimeout(total=60)

    async def send(http: aiohttp.ClientSession) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                content = io.BytesIO(body[1]) if body else None
                async with http.request(method, f"{url}{path}", data=content, headers=given) as answer:
                    await answer.read()
                    seen.add(answer.status)
                    assert answer.status != 500

    async with aiohttp.ClientSession(timeout=patience) as http, asyncio.TaskGroup() as tasks:
        senders = [tasks.create_task(send(http)) for _ in range(at_once)]
        yield seen
        for sender in senders:
            sender.cancel()


def submits(made: Callable[[], Body]) -> "Mode":
    @asynccontextmanager
    async def mode(url: str) -> AsyncIterator[None]:
        async with _again_and_again(url, WORKFLOW, MEAN, made(), at_once=1):
            yield

    return mode


@asynccontextmanager
async def queue_filled(url: str) -> AsyncIterator[None]:
    """Workflows until no more are accepted."""
    async with aiohttp.ClientSession(url, headers=MEAN) as http:
        for _ in range(10 * QUEUE):
            async with http.post(WORKFLOW, json={"workflow": slow(steps=20)}) as answer:
                if answer.status != 202:
                    break
        assert answer.status == 503
        yield


Mode = Callable[[str], AbstractAsyncContextManager[None]]

MODES: dict[str, Mode] = {
    **CONNECTIONS,
    "replays": replays,
    "pings": pings,
    "slow readers": slow_readers,
    "slow readers of a link": slow_readers_of_a_link,
    "false links": false_links,
    "previews of a large picture": previews,
    "slow assets": slow_assets,
    "small assets": small_assets,
    "silent events": silent_events,
    "page": page,
    **CROWDS,
    "queue filled": queue_filled,
}
SUBMITS: dict[str, Mode] = {name: submits(made) for name, made in BODIES.items()}


QUEUE = 24
"""Workflows that may wait."""


@asynccontextmanager
async def serve_guarded(folder: Path, engine_url: str, **settings: object) -> AsyncIterator[Served]:
    """A sidecar that knows both clients."""
    store = await Store.open(load_settings(state_dir=folder / "state"))
    for name in ("mean", "kind"):
        rights = DEFAULT_KEY_RIGHTS
        await store.add_key(ApiKey(name=name, digest=digest_of(name), rights=rights, created_at=1))
    await store.close()
    async with serve_process(folder, engine_url, MAX_QUEUED=QUEUE, **settings) as served:
        yield served


async def stalls(url: str, mode: Mode, *, seconds: float) -> list[float]:
    """Milliseconds of each `GET /health` of somebody else during the mode, in order of length."""
    watch = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.hostile.watch", url,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with mode(url):
        await asyncio.sleep(seconds)
        said, _ = await watch.communicate(b"")
    return [float(each) for each in json.loads(said)]


@asynccontextmanager
async def engine_beside(folder: Path) -> AsyncIterator[str]:
    """An engine in a process of its own: what it takes is not the bridge's."""
    engine = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "comfy_mcp.embedded", "--base-directory", str(folder),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert engine.stdout is not None
    try:
        yield (await engine.stdout.readline()).decode().strip()
    finally:
        engine.terminate()
        await engine.wait()


async def main() -> None:
    """Those that are named, or all: each against a sidecar of its own, with an engine of its own."""
    wanted = sys.argv[1:] or [*MODES, *SUBMITS]
    print("| attack | p99, longest |\n|---|---|", flush=True)
    for name, mode in ((each, (MODES | SUBMITS)[each]) for each in wanted):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            async with engine_beside(place / "engine") as engine, serve_guarded(place, engine) as served:
                found = await stalls(served.url, mode, seconds=3)
                p99 = found[int(len(found) * 0.99)]
                print(f"| {name} | {p99:.0f}, {found[-1]:.0f} ms |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
