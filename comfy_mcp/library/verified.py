"""Files on disk that were hashed before: while they stay as they are they need not be hashed again."""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from typing import Self

from comfy_mcp.domain.bounded import Bounded

SETTLED_NS = 2 * 10**9
"""So long a file must have been left alone before it was opened: file times are as coarse as a clock's tick
(two seconds on FAT), and a second write within one tick leaves no trace in them."""

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


class Verified:
    """The hashes of the files that this process has read through; the oldest are forgotten."""

    def __init__(self, *, timeout_s: float, clock: Callable[[], int] = time.time_ns) -> None:
        """`timeout_s` for the file system to answer; `clock` in nanoseconds since 1970, as file times are."""
        self.timeout_s = timeout_s
        self._clock = clock
        self._hashes: Bounded[Stamp, str] = Bounded(MAX_REMEMBERED)

    def opened(self, stream: FileIO, found: os.stat_result) -> "FileOnDisk":
        """`found` is fstat's of `stream`, which nobody has read yet."""
        stamp = Stamp.of(found)
        settled = max(stamp.mtime_ns, stamp.ctime_ns) + SETTLED_NS <= self._clock()
        return FileOnDisk(self, stream, stamp, settled=settled)

    def get(self, stamp: Stamp) -> str | None:
        return self._hashes.get(stamp)

    def put(self, stamp: Stamp, sha256: str) -> None:
        self._hashes[stamp] = sha256


class FileOnDisk:
    """An open file, and what is known of its content."""

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
            return await asyncio.to_thread(self._still_holds, sha256)

    async def note(self, sha256: str) -> None:
        """Its bytes were read from begin to end, and this is their hash. Raises OSError."""
        if not self._settled or self._verified.get(self._stamp) == sha256:
            return
        async with asyncio.timeout(self._verified.timeout_s):
            if await asyncio.to_thread(self._left_alone):
                self._verified.put(self._stamp, sha256)

    def _left_alone(self) -> bool:
        return Stamp.of(os.fstat(self._stream.fileno())) == self._stamp

    def _still_holds(self, sha256: str | None) -> bool:
        if self._left_alone():
            return True
        self._stream.seek(0)
        return hashlib.file_digest(self._stream, "sha256").hexdigest() == sha256
