"""The wire: lines in, lines out, on descriptors that behave as badly as they like."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification

from comfy_mcp.server.pipes import Inbound, Wire, open_streams
from tests.support.mcp_surface import LIMIT_S

MAX_LINE = 100_000


@dataclass(slots=True, kw_only=True)
class Ends:
    """Both ends: the server's streams, the client's descriptors."""

    read: Any
    write: Any
    stdin: int
    stdout: int
    answers: list[None]
    open: set[int]

    def hang_up(self, descriptor: int) -> None:
        self.open.remove(descriptor)
        os.close(descriptor)

    async def received(self) -> str:
        async with asyncio.timeout(LIMIT_S):
            item: Inbound = await self.read.receive()
        return method_of(item)

    async def line(self) -> dict[str, Any]:
        """What the client reads next; the descriptor is read in a thread, as a client would be elsewhere."""

        def read() -> bytes:
            data = b""
            while not data.endswith(b"\n"):
                data += os.read(self.stdout, 65_536)
            return data

        async with asyncio.timeout(LIMIT_S):
            return dict(json.loads(await asyncio.to_thread(read)))


@asynccontextmanager
async def ends() -> AsyncIterator[Ends]:
    server_in, client_out = os.pipe()
    client_in, server_out = os.pipe()
    answers: list[None] = []
    still_open = {server_in, client_out, client_in, server_out}
    try:
        async with (
            open_streams(
                Wire(read_fd=server_in, write_fd=server_out),
                max_line=MAX_LINE,
                on_answer=lambda: answers.append(None),
            ) as (read, write),
            read,
            write,
        ):
            yield Ends(
                read=read, write=write, stdin=client_out, stdout=client_in, answers=answers, open=still_open
            )
    finally:
        for descriptor in still_open:
            os.close(descriptor)


def method_of(item: Inbound) -> str:
    assert isinstance(item, SessionMessage)
    assert isinstance(item.message, JSONRPCNotification)
    return item.message.method


def notification(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode() + b"\n"


def message(method: str, **params: Any) -> SessionMessage:
    return SessionMessage(JSONRPCNotification(jsonrpc="2.0", method=method, params=params))


async def test_lines_become_messages_however_they_are_cut() -> None:
    async with ends() as pipe:
        os.write(pipe.stdin, notification("a") + notification("b")[:7])
        assert await pipe.received() == "a"
        os.write(pipe.stdin, notification("b")[7:] + b"\n  \r\n" + notification("c"))
        assert await pipe.received() == "b"
        assert await pipe.received() == "c"


async def test_messages_become_lines_and_are_counted() -> None:
    async with ends() as pipe:
        await pipe.write.send(message("ü", text="line\nbreak"))
        assert await pipe.line() == {"jsonrpc": "2.0", "method": "ü", "params": {"text": "line\nbreak"}}
        assert len(pipe.answers) == 1


@pytest.mark.parametrize(
    ("line", "code", "number"),
    [
        (b"not json\n", -32700, None),
        (b"\xff\xfe\n", -32700, None),
        (b"[" * 10_000 + b"\n", -32700, None),
        (b"x" * (MAX_LINE + 1) + b"\n", -32700, None),
        (b"{}\n", -32600, None),
        (b"[1, 2]\n", -32600, None),
        (b'{"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": "text"}\n', -32600, 7),
        (b'{"jsonrpc": "2.0", "id": "seven", "method": 7}\n', -32600, "seven"),
        (b'{"jsonrpc": "2.0", "id": true, "method": 7}\n', -32600, None),
    ],
)
async def test_a_line_that_is_no_message_is_answered_and_the_next_one_is_read(
    line: bytes, code: int, number: object
) -> None:
    async with ends() as pipe:
        writing = asyncio.to_thread(os.write, pipe.stdin, line + notification("after"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(writing)
            answer = await pipe.line()
            assert answer["error"]["code"] == code
            assert answer["id"] == number
            assert await pipe.received() == "after"


@pytest.mark.parametrize(
    "line",
    [
        b'\xef\xbb\xbf{"jsonrpc": "2.0", "method": "behind a mark"}\n',
        b'{"jsonrpc": "2.0", "method": "behind a mark", "params": {"half": "a \\ud83d"}}\n',
        b'{"jsonrpc": "2.0", "method": "behind a mark", "params": {"latin": "caf\xe9"}}\n',
    ],
)
async def test_what_other_programs_write_is_a_message_too(line: bytes) -> None:
    async with ends() as pipe:
        os.write(pipe.stdin, line)
        assert await pipe.received() == "behind a mark"


async def test_a_long_line_within_the_limit_is_a_message() -> None:
    async with ends() as pipe:
        line = notification("long", text="x" * (MAX_LINE - 1_000))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(os.write, pipe.stdin, line))
            assert await pipe.received() == "long"


async def test_a_closed_stdin_ends_the_stream() -> None:
    async with ends() as pipe:
        pipe.hang_up(pipe.stdin)
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(anyio.EndOfStream):
                await pipe.read.receive()


async def test_a_closed_stdout_ends_the_stream_too() -> None:
    async with ends() as pipe:
        pipe.hang_up(pipe.stdout)
        await pipe.write.send(message("lost"))
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(anyio.EndOfStream):
                await pipe.read.receive()


async def test_a_client_that_does_not_read_holds_up_its_own_messages_only() -> None:
    async with ends() as pipe:
        large = message("large", text="x" * 500_000)  # more than a pipe holds
        await pipe.write.send(large)
        os.write(pipe.stdin, notification("still heard"))
        assert await pipe.received() == "still heard"
        assert (await pipe.line())["method"] == "large"


async def test_an_end_with_an_unread_message_does_not_wait_for_ever() -> None:
    async with asyncio.timeout(LIMIT_S):
        async with ends() as pipe:
            await pipe.write.send(message("large", text="x" * 500_000))


async def test_stdin_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "session").write_bytes(notification("a") + notification("b"))
    descriptor = os.open(tmp_path / "session", os.O_RDONLY)
    out = os.open(os.devnull, os.O_WRONLY)
    try:
        wire = Wire(read_fd=descriptor, write_fd=out)
        async with (
            open_streams(wire, max_line=MAX_LINE, on_answer=lambda: None) as (read, write),
            read,
            write,
            asyncio.timeout(LIMIT_S),
        ):
            methods = [method_of(item) async for item in read]
    finally:
        os.close(descriptor)
        os.close(out)
    assert methods == ["a", "b"]
