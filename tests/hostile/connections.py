"""What a hostile client does with bare connections: silence, slowness, bytes that are no request."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from tests.support.sidecar import WORKFLOW

SILENT = 1_100
SLOW = 40


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port, limit=1024)


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def all_open(
    stack: AsyncExitStack, url: str, count: int
) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    lines = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            line = await connect(url)
            stack.push_async_callback(leave, line[1])
            lines.append(line)
    return lines


@asynccontextmanager
async def each_sends(url: str, count: int, sent: bytes) -> AsyncIterator[None]:
    """Connections that send this, and stay."""
    async with AsyncExitStack() as stack:
        for _, writer in await all_open(stack, url, count):
            writer.write(sent)
        yield


@asynccontextmanager
async def silent_connections(url: str) -> AsyncIterator[None]:
    """Connections that say nothing."""
    async with AsyncExitStack() as stack:
        await all_open(stack, url, SILENT)
        yield


@asynccontextmanager
async def compressed_bombs(url: str) -> AsyncIterator[None]:
    """One megabyte that inflates to one gigabyte, again and again, without a key."""
    bomb = gzip.compress(b"\0" * 2**20) * 1024
    head = (
        f"POST {WORKFLOW} HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n"
        f"Content-Length: {len(bomb)}\r\n\r\n"
    ).encode()
    async with each_sends(url, 8, head + bomb):
        yield


@asynccontextmanager
async def slow_uploads(url: str) -> AsyncIterator[None]:
    """Uploads of which one byte has come, and no more."""
    head = (
        b"POST /v1/comfyui/inputs HTTP/1.1\r\nHost: localhost\r\nX-API-Key: mean\r\n"
        b"Content-Length: 1000000\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.bin"\r\n\r\nx'
    )
    async with each_sends(url, SLOW, head):
        yield


@asynccontextmanager
async def crumbs(url: str) -> AsyncIterator[None]:
    """Bodies in chunks of one byte each, as fast as they are taken."""
    head = (
        f"POST {WORKFLOW} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: mean\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()

    async def send() -> None:
        while True:
            async with AsyncExitStack() as stack:
                for _, writer in await all_open(stack, url, 1):
                    writer.write(head)
                    with contextlib.suppress(ConnectionError):
                        for _ in range(400):
                            writer.write(b"1\r\n[\r\n" * 1_000)
                            await writer.drain()
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        senders = [tasks.create_task(send()) for _ in range(8)]
        yield
        for sender in senders:
            sender.cancel()


@asynccontextmanager
async def endless_headers(url: str) -> AsyncIterator[None]:
    """Requests whose headers do not end."""
    async with each_sends(url, SLOW, b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 50):
        yield


@asynccontextmanager
async def broken_requests(url: str) -> AsyncIterator[None]:
    """What is no HTTP, a thousand times."""
    async with AsyncExitStack() as stack:
        for _ in range(10):
            for _, writer in await all_open(stack, url, 100):
                writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
        yield


CONNECTIONS: Mapping[str, Callable[[str], AbstractAsyncContextManager[None]]] = {
    "silent connections": silent_connections,
    "compressed bombs": compressed_bombs,
    "slow uploads": slow_uploads,
    "crumbs": crumbs,
    "endless headers": endless_headers,
    "broken requests": broken_requests,
}
