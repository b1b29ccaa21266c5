"""What the files of the spool take: all of them, and those that one client has brought.

Several processes write there, so the folder is looked through. Where that takes long it is done seldom, and
what this process adds meanwhile is counted here.
"""

import asyncio
import hashlib
import os
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from comfy_mcp.domain.ids import ClientId

FILE_BYTES = 65_536
"""Each file counts as this at least: a million of one byte fill a disk too, and take seconds to list."""

PART, OF = ".part-", ".of-"
"""What names of files begin with that have not come whole, and of marks: an empty file beside a copy says
which client brought it."""

QUICK_S = 0.02
"""A folder that is looked through in this time is looked through each time."""

PAUSES = 20
"""Any other one is left alone for this many times what it took: it costs a twentieth of a thread."""


@dataclass(slots=True)
class Taken:
    """Bytes: `all`, and by the mark of the client that brought them."""

    all: int = 0
    by_mark: Counter[str] = field(default_factory=Counter)

    def add(self, size: int, mark: str) -> None:
        self.all += max(size, FILE_BYTES)
        self.by_mark[mark] += max(size, FILE_BYTES)


class Room:
    """Belongs to one event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looking = asyncio.Lock()
        self._found = Taken()
        self._good_until = float("-inf")
        self._coming: dict[str, tuple[int, str]] = {}

    async def look(self) -> None:
        """Look through the folder, if that is due. Raises OSError."""
        async with self._looking:
            if (began := time.monotonic()) < self._good_until:
                return
            self._found = await asyncio.to_thread(_taken_in, self._folder, frozenset(self._coming))
            took = time.monotonic() - began
            self._good_until = began if took <= QUICK_S else began + took * (1 + PAUSES)

    def beside(self, part: str, client: ClientId | None) -> tuple[int, int]:
        """Bytes of all files but `part`, and those of the client."""
        others = [(size, mark) for name, (size, mark) in self._coming.items() if name != part]
        own = mark_of(client)
        return (
            self._found.all + sum(size for size, _ in others),
            self._found.by_mark[own] + sum(size for size, mark in others if mark == own),
        )

    def comes(self, part: str, size: int, client: ClientId | None) -> None:
        """A part has this size now."""
        self._coming[part] = max(size, FILE_BYTES), mark_of(client)

    def ends(self, part: str) -> None:
        """It is no part any more: deleted, or kept."""
        self._coming.pop(part, None)

    def keeps(self, size: int, client: ClientId | None) -> None:
        """A copy of this size is in the folder from now on."""
        self._found.add(size, mark_of(client))


def mark_of(client: ClientId | None) -> str:
    """What the names of a client's own files in the folder begin with; nothing for nobody's."""
    if client is None:
        return ""
    digest = hashlib.sha256(client.encode(errors="replace")).hexdigest()
    return f"{OF}{digest[:16]}-"


_MARK_CHARS = len(mark_of(ClientId("")))


def _taken_in(folder: Path, without: Collection[str]) -> Taken:
    found = Taken()
    with os.scandir(folder) as entries:
        sizes = {each.name: _size(each) for each in entries if each.name not in without}
    found.all = sum(sizes.values())
    for name, size in sizes.items():
        if name.startswith(OF):
            found.by_mark[name[:_MARK_CHARS]] += sizes.get(name[_MARK_CHARS:], 0)
        elif name.startswith(f"{PART}{OF}"):
            found.by_mark[name.removeprefix(PART)[:_MARK_CHARS]] += size
    return found


def _size(entry: os.DirEntry[str]) -> int:
    """What it counts as; a mark counts nothing."""
    try:
        return 0 if entry.name.startswith(OF) else max(entry.stat().st_size, FILE_BYTES)
    except OSError:
        return 0
