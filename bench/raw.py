"""An HTTP/1.1 client that costs next to nothing, so that what is measured is the server: one kept connection,
one request at a time, answers with a Content-Length or in chunks."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

READ = 2**18


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """`size` is the body's length; `body` is empty where it was only counted."""

    status: int
    body: bytes
    size: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host

    @classmethod
    async def connect(cls, url: str) -> Self:
        parts = urlsplit(url)
        assert parts.hostname is not None
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=READ)
        return cls(reader, writer, parts.netloc)

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def get(self, path: str, *, keep: bool = True) -> RawAnswer:
        """`keep` False: the body is counted and dropped."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        return await self._answer(keep=keep)

    async def post(self, path: str, body: bytes, **headers: str) -> RawAnswer:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n{lines}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        return await self._answer(keep=True)

    async def _answer(self, *, keep: bool) -> RawAnswer:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        length = next(
            int(line.partition(":")[2]) for line in head.split("\r\n") if line.startswith("content-length:")
        )
        if keep:
            return RawAnswer(status=status, body=await self._reader.readexactly(length), size=length)
        left = length
        while left:
            got = len(await self._reader.read(min(READ, left)))
            if not got:
                raise ConnectionError("the answer was cut")
            left -= got
        return RawAnswer(status=status, body=b"", size=length)
