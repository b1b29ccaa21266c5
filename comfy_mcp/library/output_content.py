"""The bytes of an open output, as its readers get them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from comfy_mcp.domain.catalog import Output, OutputFile
from comfy_mcp.domain.media_types import HEAD_BYTES, media_type_of
from comfy_mcp.library.output_refusals import ANOTHER, gone
from comfy_mcp.library.sending import Rest
from comfy_mcp.library.verified import KnownFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Bytes of a file from `start` up to but not including `stop`; never empty."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class ServedFile(Protocol):
    """A file, or a range of it, that an engine is sending. `status` is 206 for a range.

    `total_length` in bytes is the whole file's; None when the engine did not say.
    """

    @property
    def status(self) -> int: ...
    @property
    def total_length(self) -> int | None: ...

    @property
    def validator(self) -> str | None:
        """What changes whenever the file's bytes change; None when the engine did not say."""
        ...

    async def unchanged(self) -> bool | None:
        """Whether the file has the same validator still; None when it is gone. Raises EngineFault."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, once. Raises EngineFault when the connection breaks."""
        ...

    def take_over(self) -> Rest | None:
        """What `chunks` has not given yet, for the kernel to move; None where it can't."""
        ...


class FileServer(Protocol):
    """An engine that can be asked for `GET /view`."""

    def view(
        self, file: OutputFile, *, byte_range: str | None = None
    ) -> AbstractAsyncContextManager[ServedFile]:
        """`byte_range` is `bytes=0-9`; the whole file may come all the same.

        Raises NotFound when the engine does not have the file, InvalidInput for a range outside it,
        EngineFault.
        """
        ...

    async def read_file(self, file: OutputFile, *, limit: int) -> tuple[bytes, int] | None:
        """The whole file and the length that the engine said; None for a longer one than `limit`, and where
        it said none. It costs a fraction of `view`. Raises NotFound, EngineFault."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputContent:
    """An open output. `size` in bytes is the whole output's, None when unknown; `chunks` can be read once.

    `file`: what is known of the file, where it can be recognised. `rest`, instead of `chunks` and at most
    once: the bytes for the kernel to move; None where it can't, and `chunks` has them all.
    """

    size: int | None
    media_type: str
    chunks: AsyncIterator[bytes]
    file: KnownFile | None = None
    rest: Callable[[], Rest | None] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputData:
    """A whole output in memory."""

    data: bytes = field(repr=False)
    media_type: str


async def content_of(
    output: Output, size: int | None, chunks: AsyncIterator[bytes], part: Span | None
) -> tuple[bytes, OutputContent]:
    """(What was read to find the type, the content)."""
    name, head = output.file.filename, b""
    if part is not None:
        return head, OutputContent(size=size, media_type=media_type_of(name), chunks=chunks)
    while len(head) < HEAD_BYTES and (chunk := await anext(chunks, b"")):
        head += chunk
    media_type = media_type_of(name, head)
    return head, OutputContent(size=size, media_type=media_type, chunks=_rejoined(head, chunks))


def behind(head: bytes, served: ServedFile) -> Rest | None:
    """The rest of what an engine sends, `head` with it."""
    rest = served.take_over()
    if rest is not None:
        rest.early = head + rest.early
    return rest


async def _rejoined(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if head:
        yield head
    async for chunk in rest:
        yield chunk


async def cut_out(chunks: AsyncIterator[bytes], part: Span) -> AsyncIterator[bytes]:
    """The part of a file that comes whole: an engine need not know ranges."""
    at = 0
    async for chunk in chunks:
        wanted = chunk[max(0, part.start - at) : max(0, part.stop - at)]
        at += len(chunk)
        if wanted:
            yield wanted
        if at >= part.stop:
            return


HASHED_HERE = 256 * 1024
"""Bytes that are hashed in less time than a trip to a thread takes."""


async def require_same(output: Output, data: bytes) -> None:
    """Raises NotFound (output_gone) for other bytes than those that were hashed before."""
    if output.sha256 is None:
        return
    small = len(data) <= HASHED_HERE
    if (_sha256(data) if small else await asyncio.to_thread(_sha256, data)) != output.sha256:
        raise gone(output, ANOTHER)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def text_of(output: Output) -> bytes:
    """Of an output that is a text and no file."""
    return (output.file.text or "").encode("utf-8", "surrogatepass")


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data
