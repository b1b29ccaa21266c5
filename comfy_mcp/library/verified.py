"""Files that were hashed before: while they stay as they are they need not be hashed again."""

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from io import FileIO
from typing import Protocol, Self

from comfy_mcp.daemon_threads import on_daemon_thread
from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.errors import EngineFault

SETTLED_NS = 2 * 10**9
"""A file must be unchanged for this long before it is opened: file times are as coarse as a clock's tick
(two seconds on FAT), and a second write within one tick does not show in them."""

MAX_REMEMBERED = 10_000
"""Files; about 300 bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What stat(2) says of a file; another one after any write, rename or change of its rights."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        return cls(
            device=found.st_dev,
            inode=found.st_ino,
            size=found.st_size,
            mtime_ns=found.st_mtime_ns,
            ctime_ns=found.st_ctime_ns,
        )


class KnownFile(Protocol):
    """An open file, and what is known of its content."""

    def was_hashed_as(self, sha256: str | None) -> bool:
        """Before, and it had not been changed since when it was opened."""

    async def still_holds(self, sha256: str | None) -> bool:
        """Of a file that was hashed before and has been read: was its content this to the end?"""

    async def note(self, sha256: str) -> None:
        """Its bytes were read from begin to end, and this is their hash."""


class Verified:
    """The hashes of the files that this process has read through; the oldest are forgotten."""

    def __init__(self, *, timeout_s: float, clock: Callable[[], int] = time.time_ns) -> None:
        """`timeout_s` for the file system to answer; `clock` in nanoseconds since 1970, as file times are."""
        self.timeout_s = timeout_s
        self._clock = clock
        self._hashes: Bounded[Hashable, str] = Bounded(MAX_REMEMBERED)

    def opened(self, stream: FileIO, found: os.stat_result) -> "FileOnDisk":
        """`found` is fstat's of `stream`, which nobody has read yet."""
        stamp = Stamp.of(found)
        settled = max(stamp.mtime_ns, stamp.ctime_ns) + SETTLED_NS <= self._clock()
        return FileOnDisk(self, stream, stamp, settled=settled)

    def get(self, stamp: Hashable) -> str | None:
        return self._hashes.get(stamp)

    def put(self, stamp: Hashable, sha256: str) -> None:
        self._hashes[stamp] = sha256


class FileOnEngine:
    """A file that an engine sends, known by the validator that came with it."""

    def __init__(
        self,
        verified: Verified,
        output: Output,
        validator: str,
        unchanged: Callable[[], Awaitable[bool | None]],
    ) -> None:
        """`unchanged` asks the engine whether the validator is the same; None: the file is gone."""
        file = output.file
        self._verified = verified
        self._stamp = (output.engine, file.folder_type, file.subfolder, file.filename, validator)
        self._unchanged = unchanged

    def was_hashed_as(self, sha256: str | None) -> bool:
        return sha256 is not None and self._verified.get(self._stamp) == sha256

    async def still_holds(self, sha256: str | None) -> bool:
        """True of a file that was deleted: what was sent came from the one that the engine had opened."""
        return await self._unchanged() is not False

    async def note(self, sha256: str) -> None:
        with contextlib.suppress(EngineFault):  # then it is hashed again the next time
            if not self.was_hashed_as(sha256) and await self._unchanged():
                self._verified.put(self._stamp, sha256)


class FileOnDisk:
    """A file that this process has opened, known by what stat(2) says of it."""

    def __init__(self, verified: Verified, stream: FileIO, stamp: Stamp, *, settled: bool) -> None:
        self._verified = verified
        self._stream = stream
        self._stamp = stamp
        self._settled = settled

    def was_hashed_as(self, sha256: str | None) -> bool:
        """Before, and it had not been touched since when it was opened."""
        return sha256 is not None and self._verified.get(self._stamp) == sha256

    async def still_holds(self, sha256: str | None) -> bool:
        """Of a file that was hashed before and has been read to its end: was it left alone meanwhile?

        Where it was not (its name may just have been deleted) it is read through again. Raises OSError.
        """
        async with asyncio.timeout(self._verified.timeout_s):
            return await on_daemon_thread(partial(self._still_holds, sha256), name="outputs")

    async def note(self, sha256: str) -> None:
        """Its bytes were read from begin to end, and this is their hash. Raises OSError."""
        if not self._settled or self._verified.get(self._stamp) == sha256:
            return
        async with asyncio.timeout(self._verified.timeout_s):
            if await on_daemon_thread(self._left_alone, name="outputs"):
                self._verified.put(self._stamp, sha256)

    def _left_alone(self) -> bool:
        return Stamp.of(os.fstat(self._stream.fileno())) == self._stamp

    def _still_holds(self, sha256: str | None) -> bool:
        if self._left_alone():
            return True
        self._stream.seek(0)
        return hashlib.file_digest(self._stream, "sha256").hexdigest() == sha256
