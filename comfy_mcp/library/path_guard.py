"""Opening a file that must lie inside given folders, safe against a swap between check and open."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOFOLLOW", 0)  # the last part was resolved already: a link there now is a swap
    | getattr(os, "O_NONBLOCK", 0)  # opening a pipe without a writer must not hang
)


class OutsideRoots(Exception):
    """The path, with its links followed, leads out of every allowed folder."""


class NotRegular(Exception):
    """The path names a folder, a pipe, a socket or a device."""


class TooLong(Exception):
    """The file has more bytes than are wanted."""


def resolve_inside(path: Path, roots: Sequence[Path]) -> Path:
    """`path` with all links followed. Raises OutsideRoots; a missing file is not an error here."""
    try:
        resolved = path.resolve()
    except (RuntimeError, OSError, ValueError):  # a loop of links, a name too long, a NUL
        raise OutsideRoots(str(path)) from None
    if not any(resolved.is_relative_to(root.resolve()) for root in roots):
        raise OutsideRoots(str(path))
    return resolved


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file, open for reading, and what its fstat said."""

    stream: FileIO
    found: os.stat_result

    def close(self) -> None:
        self.stream.close()


def open_inside(path: Path, roots: Sequence[Path]) -> OpenFile:
    """The regular file at `path`. Blocks: use a thread.

    Raises OutsideRoots, NotRegular, OSError. The caller closes the file.
    """
    resolved = resolve_inside(path, roots)
    descriptor = os.open(resolved, _FLAGS)
    try:
        opened = os.fstat(descriptor)
        _check(path, roots, resolved, opened)
    except BaseException:
        os.close(descriptor)
        raise
    return OpenFile(FileIO(descriptor), opened)


def read_inside(path: Path, roots: Sequence[Path], limit: int) -> bytes:
    """All bytes of the regular file at `path`. Blocks: use a thread.

    Raises TooLong for more than `limit`, and what `open_inside` raises.
    """
    opened = open_inside(path, roots)
    with BufferedReader(opened.stream) as stream:
        data = b"" if opened.found.st_size > limit else stream.read(limit + 1)
    if max(len(data), opened.found.st_size) > limit:
        raise TooLong(str(path))
    return data


def _check(path: Path, roots: Sequence[Path], resolved: Path, opened: os.stat_result) -> None:
    if not stat.S_ISREG(opened.st_mode):
        raise NotRegular(str(path))
    # A folder on the way may have become a link since: then the name leads elsewhere by now.
    if resolve_inside(path, roots) != resolved or not os.path.samestat(resolved.stat(), opened):
        raise OutsideRoots(str(path))
