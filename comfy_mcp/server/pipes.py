"""The stdio transport: newline-delimited JSON-RPC on the process's own stdin and stdout.

Own code rather than the SDK's, whose reader is a thread that can't be stopped: a SIGTERM would wait for the
client's next line. Here the event loop watches the descriptor; threads serve only what it can't watch
(files, Windows pipes), and those are daemons.
"""

import asyncio
import codecs
import json
import os
import select
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio
import mcp_types as types
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from comfy_mcp.daemon_threads import on_daemon_thread
from comfy_mcp.domain import large_json
from comfy_mcp.operations.beside import beside

log = structlog.get_logger(__name__)
Inbound = SessionMessage | Exception

CHUNK = 65_536
ATOMIC = 4_096
"""POSIX PIPE_BUF's usual value: a pipe that polls writable accepts this many bytes without blocking."""

FLUSH_S = 2.0
"""Time to send what is already written when the connection ends; a client that has exited never reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """The descriptors that carry the protocol."""

    read_fd: int
    write_fd: int


def claim_stdio() -> Wire:
    """Take stdin and stdout for the protocol, for as long as the process lives.

    From here on descriptor 0 is empty and 1 is stderr: what prints, in Python, in C or in a child, can't
    reach the client. Not undone at exit: text still in a buffer would land on the wire.
    """
    sys.stdout.flush()
    _open_missing_stderr()
    wire = Wire(read_fd=os.dup(0), write_fd=os.dup(1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr  # so that prints come out at once, in order with the log
    return wire


@asynccontextmanager
async def open_streams(
    wire: Wire, *, max_line: int, on_answer: Callable[[], None]
) -> AsyncIterator[tuple[MemoryObjectReceiveStream[Inbound], MemoryObjectSendStream[SessionMessage]]]:
    """The wire as the SDK's pair of message streams.

    A line that is no message, or longer than `max_line` bytes, is answered with a JSON-RPC error.
    `on_answer` is called after each message written.
    """
    to_server, from_client = anyio.create_memory_object_stream[Inbound](0)
    to_client, from_server = anyio.create_memory_object_stream[SessionMessage](0)
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(_write(wire.write_fd, from_server, to_server, on_answer))
        reading = tasks.create_task(_read(wire.read_fd, max_line, to_server, to_client.clone()))
        try:
            yield from_client, to_client
        finally:
            reading.cancel()
            to_client.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await asyncio.wait({writing})
            writing.cancel()


async def _read(
    fd: int,
    max_line: int,
    to_server: MemoryObjectSendStream[Inbound],
    to_client: MemoryObjectSendStream[SessionMessage],
) -> None:
    async with to_server, to_client:
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            async for line in _lines(fd, max_line):
                large = line is not None and len(line) > large_json.LARGE_BYTES
                message = await beside(large, _message, line)
                if isinstance(message, NoMessage):
                    log.warning("line_is_no_message", length=len(line) if line is not None else None)
                    await to_client.send(SessionMessage(message.answer))
                else:
                    await to_server.send(SessionMessage(message))


@dataclass(frozen=True, slots=True)
class NoMessage:
    """What a line was not, as its sender reads it."""

    answer: types.JSONRPCError


def _message(line: bytes | None) -> types.JSONRPCMessage | NoMessage:
    """`line` None: it was too long.

    A byte order mark is no part of the message. Half a surrogate pair, or a byte of another encoding, becomes
    U+FFFD: a request must not stay without an answer because of one character.
    """
    if line is None:
        return NoMessage(_error(None, types.PARSE_ERROR, "The line is too long"))
    line = line.removeprefix(codecs.BOM_UTF8)
    with suppress(ValidationError, ValueError, RecursionError):
        if len(line) > large_json.LARGE_BYTES:
            return types.jsonrpc_message_adapter.validate_python(
                large_json.loads(line.decode()), by_name=False
            )
        return types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    try:
        value = json.loads(line.decode("utf-8", "replace"))
        text = large_json.with_whole_characters(json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError):
        return NoMessage(_error(None, types.PARSE_ERROR, "The line is not JSON"))
    with suppress(ValidationError):
        return types.jsonrpc_message_adapter.validate_json(text, by_name=False)
    number = value.get("id") if isinstance(value, dict) else None
    known = number if isinstance(number, int | str) and not isinstance(number, bool) else None
    return NoMessage(_error(known, types.INVALID_REQUEST, "The line is no JSON-RPC message"))


async def _lines(fd: int, max_line: int) -> AsyncIterator[bytes | None]:
    """Lines without their end, blank ones left out; None for one that was too long."""
    buffer = bytearray()
    skipping = False
    while chunk := await _read_chunk(fd):
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = None if skipping or len(buffer) + len(end) > max_line else bytes(buffer) + end
            buffer.clear()
            skipping = False
            if line is None or line.strip():
                yield line
        skipping = skipping or len(buffer) + len(rest) > max_line
        if skipping:
            buffer.clear()
        else:
            buffer += rest


async def _read_chunk(fd: int) -> bytes:
    """Empty at the end of the stream, also when the other side broke it off."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        loop.remove_reader(fd)
        if not readable.done():
            readable.set_result(None)

    try:
        loop.add_reader(fd, ready)
    except (OSError, NotImplementedError):  # epoll refuses files; Windows' loop refuses descriptors
        return await on_daemon_thread(lambda: _chunk(fd), name="mcp-stdio")
    try:
        await readable
    finally:
        loop.remove_reader(fd)
    return _chunk(fd)


def _chunk(fd: int) -> bytes:
    try:
        return os.read(fd, CHUNK)
    except OSError:
        return b""


async def _write(
    fd: int,
    from_server: MemoryObjectReceiveStream[SessionMessage],
    to_server: MemoryObjectSendStream[Inbound],
    on_answer: Callable[[], None],
) -> None:
    async with from_server:
        async for item in from_server:
            line = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
            try:
                await _write_line(fd, line)
            except OSError as error:
                log.info("client_gone", error=type(error).__name__)
                to_server.close()  # for the server this is the end of the input
                return
            on_answer()


async def _write_line(fd: int, line: bytes) -> None:
    """At once where it can't block, else in a thread: a client that reads slowly must not stop the loop."""
    if len(line) <= ATOMIC and _writable(fd):
        os.write(fd, line)
    else:
        await on_daemon_thread(lambda: _write_all(fd, line), name="mcp-stdio")


def _writable(fd: int) -> bool:
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return any(event & select.POLLOUT for _, event in poll.poll(0))


def _write_all(fd: int, line: bytes) -> None:
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _error(number: int | str | None, code: int, message: str) -> types.JSONRPCError:
    return types.JSONRPCError(jsonrpc="2.0", id=number, error=types.ErrorData(code=code, message=message))


def _open_missing_stderr() -> None:
    """A process may be started without stderr; its number must not go to the wire."""
    try:
        os.fstat(2)
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        if nothing != 2:
            os.dup2(nothing, 2)
            os.close(nothing)
