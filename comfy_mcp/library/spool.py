"""Copies of input files that jobs wait with: named by their content, in one folder of the data folder.

A file is complete under its name or not there at all, whoever dies when. Several processes share the folder.
An empty file beside a copy says which client brought it: so no client fills the folder alone.
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import ParamSpec, TypeVar

from comfy_mcp.daemon_threads import Apart
from comfy_mcp.domain.errors import ErrorCode, LimitExceeded, StoreFault, file_too_large
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.domain.media_types import HEAD_BYTES
from comfy_mcp.library.spool_room import OF, PART, Room, mark_of

SPOOL_BYTES = 8 * 2**30
"""All copies together. Those that no job names any more go first, an hour after their last use."""

SHARE = 0.75
"""The part of it that one client with a key can fill, as of the queue: so the others can still submit."""

LEFT_FREE = 256 * 2**20
"""Bytes of the disk that no copy takes: the store writes there too."""

LOOK_BYTES = 16 * 2**20
"""How much of a file comes between two looks at what there is room for: others write meanwhile."""

UNUSED_S = 3_600.0
"""A copy that no job names is deleted after this: the job that it was made for may not be written yet."""

CHUNK_BYTES = 256 * 1024

OPEN_S = 30.0
"""For the disk to open a copy."""

P = ParamSpec("P")
R = TypeVar("R")

_GONE = ".gone-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A file that has come, whole, and has no name yet: `head` are its first bytes."""

    part: Path
    digest: str
    size: int
    head: bytes
    client: ClientId | None


class Spool:
    """`most` bytes in all. Every method that touches the disk runs in a thread."""

    def __init__(self, folder: Path, *, most: int = SPOOL_BYTES) -> None:
        self._folder = folder
        self._most = most
        self._room = Room(folder)
        self._disk = Apart("input copies", limit_s=OPEN_S)

    @contextlib.asynccontextmanager
    async def receive(
        self, chunks: AsyncIterable[bytes], *, limit: int, client: ClientId | None = None
    ) -> AsyncIterator[Received]:
        """The bytes on disk, without a name, for the time of the context; `keep` gives them one.

        `client`: whose share they take; None: nobody's, the folder alone bounds them. Raises LimitExceeded
        (too_large) beyond `limit`, LimitExceeded (queue_full) where there is no room, StoreFault where the
        disk takes nothing, and what reading the chunks raises.
        """
        stream = await self._part(client)
        part = Path(stream.name)
        self._room.comes(part.name, 0, client)
        digest, size, looked, head = hashlib.sha256(), 0, 0, b""
        try:
            with stream:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise file_too_large(limit)
                    if size > looked:
                        await self._require_room(size, client, part.name)
                        looked = size + LOOK_BYTES
                    head += chunk[: HEAD_BYTES - len(head)]
                    digest.update(chunk)
                    await _on_disk(stream.write, chunk)
                await _on_disk(_flushed, stream)
            yield Received(part=part, digest=digest.hexdigest(), size=size, head=head, client=client)
        finally:
            self._room.ends(part.name)
            with contextlib.suppress(OSError):
                os.unlink(part)  # noqa: PTH108 - also when cancelled, so not on a thread

    async def keep(self, received: Received, suffix: str) -> str:
        """The name that the file has from now on."""
        name = f"{received.digest}{suffix}"
        if received.client is not None:
            await _on_disk((self._folder / f"{mark_of(received.client)}{name}").touch)
        if not await self.touch(name):
            await _on_disk(os.replace, received.part, self._folder / name)
            self._room.ends(received.part.name)
            self._room.keeps(received.size, received.client)
        return name

    async def touch(self, name: str) -> bool:
        """Whether there is a copy with this name. It counts as used now. Raises StoreFault."""
        return await _on_disk(self._touch, name)

    async def open(self, name: str) -> tuple[FileIO, int] | None:
        """The copy and its size; None when it is gone. The caller closes it. Raises StoreFault."""
        try:
            stream = await self._disk.do(
                lambda: (self._folder / name).open("rb", buffering=0), late=lambda late: late.close()
            )
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

    async def _part(self, client: ClientId | None) -> "tempfile._TemporaryFileWrapper[bytes]":
        """A new file. A caller that is cancelled while it is made leaves none behind."""
        try:
            return await self._disk.do(lambda: self._begin(client), late=_discard)
        except OSError as error:
            raise _not_kept(error) from None

    def _begin(self, client: ClientId | None) -> "tempfile._TemporaryFileWrapper[bytes]":
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        prefix = f"{PART}{mark_of(client)}"
        return tempfile.NamedTemporaryFile(dir=self._folder, prefix=prefix, delete=False)

    async def _require_room(self, size: int, client: ClientId | None, part: str) -> None:
        """Raises LimitExceeded where a file of `size` bytes has no room beside the others; it is `part`."""
        try:
            await self._room.look()
        except OSError as error:
            raise _not_kept(error) from None
        taken, own = self._room.beside(part, client)
        if taken + size > self._most:
            raise _full(f"The input files that jobs wait with take {self._most} bytes already.")
        share = int(self._most * SHARE)
        if client is not None and own + size > share:
            raise _full(
                f"Your input files that jobs wait with take {share} bytes already, one client's share."
            )
        self._room.comes(part, size, client)
        if (await _on_disk(shutil.disk_usage, self._folder)).free < LEFT_FREE:
            raise _full("The disk is nearly full, and what is free is left to the queue.")

    def _touch(self, name: str) -> bool:
        try:
            os.utime(self._folder / name)
        except FileNotFoundError:
            return False
        return True

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
                if name in named or self._marks_a_copy(name):
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

    def _marks_a_copy(self, name: str) -> bool:
        return name.startswith(OF) and (self._folder / name.rpartition("-")[2]).exists()


def _discard(made: "tempfile._TemporaryFileWrapper[bytes]") -> None:
    made.close()
    with contextlib.suppress(OSError):
        os.unlink(made.name)  # noqa: PTH108


async def _on_disk(do: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    try:
        return await asyncio.to_thread(do, *arguments, **named)
    except OSError as error:
        raise _not_kept(error) from None


def _not_kept(error: OSError) -> StoreFault:
    return StoreFault(
        f"The input file can't be kept: {why(error)}.",
        next_step="Check the disk space and the rights of the folder of COMFY_BRIDGE_STATE_DIR.",
    )


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


def _full(message: str) -> LimitExceeded:
    return LimitExceeded(
        message,
        next_step="Wait until jobs have ended and were deleted, or put the file into ComfyUI's input folder.",
        code=ErrorCode.QUEUE_FULL,
    )
