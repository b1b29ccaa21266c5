"""Outputs as files in a folder of the user's: never over another file, never half a file under its name."""

import asyncio
import contextlib
import errno
import filecmp
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from comfy_mcp.daemon_threads import Apart, on_daemon_thread
from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.domain.file_inputs import suffix_of
from comfy_mcp.domain.media_types import UNKNOWN, media_type_of
from comfy_mcp.library.allowed_folders import AllowedFolders
from comfy_mcp.library.output_refusals import gone
from comfy_mcp.library.outputs import OutputFiles

NAME_BYTES = 200
"""Longest name: file systems take 255 bytes, and a number may have to be added."""

STEP_S = 300.0
"""For the disk to take a piece, or to compare a file with one that is there."""

CLEAN_S = 5.0
"""For it to delete a file that is not wanted: also who gave up waits for this."""

NUMBERS = 10_000
"""Files of one name in a folder; beyond it another name or folder is needed."""

KEPT = ", and save again: the outputs are kept"

_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)


class Saver:
    """Writes outputs where a caller wants them."""

    def __init__(self, folders: AllowedFolders, files: OutputFiles) -> None:
        self._folders = folders
        self._files = files

    async def check(self, where: str) -> str:
        """The absolute path that `where` means. Raises InvalidInput (path_not_allowed)."""
        try:
            path = await _disk().do(lambda: self._folders.inside(where))
        except TimeoutError as error:
            raise unwritable(Path(where), error) from None
        return f"{path}{os.sep}" if where.endswith(("/", os.sep)) else str(path)

    async def save(self, outputs: Sequence[Output], where: str) -> list[Path]:
        """Write each output to `where` in the allowed folders: a folder, or a file if it ends like one.

        With several outputs a file's name gets numbers. Each has the suffix of what it is. Raises
        InvalidInput (path_not_allowed, path_unreadable), and what opening an output raises.
        """
        path = Path(await self.check(where))
        if where.endswith(("/", os.sep)):
            return await save_in(self._files, outputs, path)
        return await save_at(self._files, outputs, path)


async def save_at(files: OutputFiles, outputs: Sequence[Output], path: Path) -> list[Path]:
    """Write each output into the folder `path`, or under that name if it ends like a file's. Raises what
    `save_in` raises."""
    try:
        is_folder = media_type_of(path.name) == UNKNOWN or await _disk().do(path.is_dir)
    except OSError as error:  # such as a name that is too long
        raise unwritable(path.parent, error, kept=KEPT) from None
    if is_folder:
        return await save_in(files, outputs, path)
    return await save_in(files, outputs, path.parent, name=path.name)


async def save_in(
    files: OutputFiles, outputs: Sequence[Output], folder: Path, *, name: str | None = None
) -> list[Path]:
    """Write each output into `folder`, under its own name or a wanted one; the paths, in order.

    A file with the same bytes that is there already is not written again. One with other bytes stays, and
    the output gets a new name beside it. Raises InvalidInput (path_unreadable), and what opening an
    output raises.
    """
    saved, disk = [], _disk()
    try:
        await disk.do(partial(folder.mkdir, parents=True, exist_ok=True))
        for output in outputs:
            wanted = plain_name(output) if name is None else _renamed(name, output)
            saved.append(await _save(files, disk, output, folder, wanted))
    except OSError as error:
        raise unwritable(folder, error, kept=KEPT) from None
    return saved


def _disk() -> Apart:
    """For the steps of one call: folders of a network may hang."""
    return Apart("saving", limit_s=STEP_S)


def plain_name(output: Output) -> str:
    """A name for the output that every system takes; the engine's subfolders are left out."""
    name = _plain(output.file.filename)
    if name:
        return name
    node = _UNSAFE.sub("_", output.file.node or "0")[:40]
    ending = ".txt" if output.file.text is not None else ""
    return f"{output.file.kind.value}-node{node}{ending}"


def unwritable(folder: Path, error: OSError, *, kept: str = "") -> InvalidInput:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    first = (
        "Free disk space, or choose a folder on another disk"
        if full
        else "Choose a folder that you may write to"
    )
    return InvalidInput(
        f"{str(folder)!r} can't be written: {error.strerror or type(error).__name__}.",
        next_step=f"{first}{kept}.",
        code=ErrorCode.PATH_UNREADABLE,
    )


def _plain(name: str) -> str:
    name = _UNSAFE.sub("_", name).strip(". ")
    name = f"_{name}" if _RESERVED.fullmatch(name) else name
    if len(name.encode("utf-8", "replace")) <= NAME_BYTES:
        return name.encode("utf-8", "replace").decode()
    ending = suffix_of(name)
    short = name.encode("utf-8", "replace")[: NAME_BYTES - len(ending)].decode("utf-8", "ignore")
    return f"{short}{ending}"


def _renamed(name: str, output: Output) -> str:
    """The wanted name, with the suffix of what the output is."""
    name = _plain(name)
    true = suffix_of(output.file.filename) if output.file.text is None else ".txt"
    if not true or media_type_of(name) == media_type_of(f"x{true}"):
        return name
    return f"{name.removesuffix(Path(name).suffix)}{true}"


async def _save(files: OutputFiles, disk: Apart, output: Output, folder: Path, name: str) -> Path:
    part = folder / f".{uuid4().hex}.part"
    digest = sha256()

    def discard(made: BinaryIO) -> None:
        made.close()
        part.unlink(missing_ok=True)

    stream = await disk.do(lambda: part.open("xb"), late=discard)
    try:
        async with files.open(output) as content:
            async for chunk in content.chunks:
                digest.update(chunk)
                await disk.do(partial(stream.write, chunk))
        await disk.do(stream.close)
        if output.sha256 not in {None, digest.hexdigest()}:
            raise gone(output, "another file has this name now")
        return await disk.do(lambda: _placed(part, folder, name))
    finally:
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(CLEAN_S):
                await on_daemon_thread(lambda: discard(stream), name="saving")


def _placed(part: Path, folder: Path, name: str) -> Path:
    """Give the file its name, or the next one that is free."""
    for path in _candidates(folder, name):
        try:
            _link(part, path)
        except FileExistsError:
            if path.is_file() and filecmp.cmp(part, path, shallow=False):
                return path
        else:
            return path
    raise FileExistsError(17, f"{NUMBERS} files have the name {name}")


def _link(part: Path, path: Path) -> None:
    """A second name for the file, unless there is one. Where a file system has no links, an empty file
    reserves the name first."""
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:
        path.touch(exist_ok=False)
        part.replace(path)


def _candidates(folder: Path, name: str) -> Iterator[Path]:
    first = folder / name
    more = (first.with_name(f"{first.stem}-{number}{first.suffix}") for number in range(2, NUMBERS))
    return itertools.chain([first], more)
