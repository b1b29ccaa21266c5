"""Copies of input files that jobs wait with: named by their content, in one folder of the data folder.

A file is complete under its name or not there at all, whoever dies when. Several processes share the folder.
"""

import asyncio
import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from comfy_mcp.domain.errors import ErrorCode, LimitExceeded, StoreFault
from comfy_mcp.domain.media_types import HEAD_BYTES

SPOOL_BYTES = 8 * 2**30
"""All copies together. Those that no job names any more go first, an hour after their last use."""

UNUSED_S = 3_600.0
"""A copy that no job names is deleted after this: the job that it was made for may not be written yet."""

CHUNK_BYTES = 256 * 1024

P = ParamSpec("P")
R = TypeVar("R")

_PART, _GONE = ".part-", ".gone-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A file that has come, whole, and has no name yet: `head` are its first bytes."""

    part: Path
    digest: str
    size: int
    head: bytes


class Spool:
    """`most` bytes in all. Every method that touches the disk runs in a thread."""

    def __init__(self, folder: Path, *, most: int = SPOOL_BYTES) -> None:
        self._folder = folder
        self._most = most

    @contextlib.asynccontextmanager
    async def receive(self, chunks: AsyncIterable[bytes], *, limit: int) -> AsyncIterator[Received]:
        """The bytes on disk, without a name, for the time of the context; `keep` gives them one.

        Raises LimitExceeded (too_large) beyond `limit` or when the folder is full, StoreFault where the disk
        takes nothing, and what reading the chunks raises.
        """
        stream = await _on_disk(self._begin)
        digest, size, head = hashlib.sha256(), 0, b""
        try:
            with stream:
                room = self._most - await _on_disk(self._used)
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise too_large(limit)
                    if size > room:
                        raise _full(self._most)
                    head += chunk[: HEAD_BYTES - len(head)]
                    digest.update(chunk)
                    await _on_disk(stream.write, chunk)
                await _on_disk(_flushed, stream)
            yield Received(part=Path(stream.name), digest=digest.hexdigest(), size=size, head=head)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(stream.name)  # noqa: PTH108 - also when cancelled, so not on a thread

    async def keep(self, received: Received, suffix: str) -> str:
        """The name that the file has from now on."""
        name = f"{received.digest}{suffix}"
        if not await self.touch(name):
            await _on_disk(os.replace, received.part, self._folder / name)
        return name

    async def touch(self, name: str) -> bool:
        """Whether there is a copy with this name. It counts as used now. Raises StoreFault."""
        return await _on_disk(self._touch, name)

    async def open(self, name: str) -> tuple[BinaryIO, int] | None:
        """The copy and its size; None when it is gone. The caller closes it. Raises StoreFault."""
        try:
            stream = await asyncio.to_thread((self._folder / name).open, "rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise copy_unreadable(error) from None
        return stream, os.fstat(stream.fileno()).st_size

    async def unused(self, *, older_than_s: float = UNUSED_S) -> list[str]:
        """Names of copies that were not used for `older_than_s`."""
        return await asyncio.to_thread(lambda: list(self._old(older_than_s)))

    async def sweep(self, names: Collection[str], named: Collection[str]) -> int:
        """Delete those of `names` that are not `named`; how many went. The others count as used now."""
        return await asyncio.to_thread(self._sweep, names, named)

    def _begin(self) -> "tempfile._TemporaryFileWrapper[bytes]":
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return tempfile.NamedTemporaryFile(dir=self._folder, prefix=_PART, delete=False)

    def _touch(self, name: str) -> bool:
        try:
            os.utime(self._folder / name)
        except FileNotFoundError:
            return False
        return True

    def _used(self) -> int:
        with os.scandir(self._folder) as found:
            return sum(_size(each) for each in found)

    def _old(self, older_than_s: float) -> Iterator[str]:
        limit = time.time() - older_than_s
        with contextlib.suppress(OSError), os.scandir(self._folder) as found:
            for each in found:
                with contextlib.suppress(OSError):
                    if each.stat().st_mtime < limit:
                        yield each.name

    def _sweep(self, names: Collection[str], named: Collection[str]) -> int:
        gone = 0
        limit = time.time() - UNUSED_S
        for name in names:
            path = self._folder / name
            with contextlib.suppress(OSError):
                if name in named:
                    os.utime(path)
                    continue
                # Out of the way first: who uses it from here on does not find it, and copies it anew.
                aside = self._folder / f"{_GONE}{name.removeprefix(_GONE)}"
                path.rename(aside)
                if aside.stat().st_mtime < limit:
                    aside.unlink()
                    gone += 1
                else:
                    aside.rename(path)
        return gone


async def _on_disk(do: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    try:
        return await asyncio.to_thread(do, *arguments, **named)
    except OSError as error:
        raise StoreFault(
            f"The input file can't be kept: {why(error)}.",
            next_step="Check the disk space and the rights of the folder of COMFY_BRIDGE_STATE_DIR.",
        ) from None


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0


def _flushed(stream: "tempfile._TemporaryFileWrapper[bytes]") -> None:
    stream.flush()
    os.fsync(stream.fileno())


def why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or type(error).__name__


def copy_unreadable(error: OSError) -> StoreFault:
    """It may pass: too many open files, a network folder that is away."""
    return StoreFault(
        f"The bridge can't read its copy of an input file: {why(error)}.",
        next_step="Try again; if it stays so, check the folder of COMFY_BRIDGE_STATE_DIR.",
    )


def too_large(limit: int) -> LimitExceeded:
    return LimitExceeded(
        f"The file is larger than {limit} bytes.",
        next_step="Give a smaller file, or raise COMFY_BRIDGE_MAX_UPLOAD_BYTES.",
        code=ErrorCode.TOO_LARGE,
    )


def _full(most: int) -> LimitExceeded:
    return LimitExceeded(
        f"The input files that jobs wait with take {most} bytes already.",
        next_step="Wait until jobs have ended and were deleted, or put the file into ComfyUI's input folder.",
        code=ErrorCode.QUEUE_FULL,
    )
