"""Which files need not be hashed again: only those that nobody can have touched."""

import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path

import pytest

from comfy_mcp.library import verified
from comfy_mcp.library.verified import SETTLED_NS, FileOnDisk, Verified

OLD = b"what it was"
NEW = b"what it is!"
HASH = hashlib.sha256(OLD).hexdigest()


def later() -> int:
    return time.time_ns() + SETTLED_NS + 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(OLD)
    return path


@pytest.fixture
def files() -> Verified:
    return Verified(timeout_s=30.0, clock=later)


@asynccontextmanager
async def opened(files: Verified, path: Path) -> AsyncIterator[FileOnDisk]:
    with FileIO(path) as stream:
        yield files.opened(stream, os.fstat(stream.fileno()))


async def known(files: Verified, path: Path, sha256: str = HASH) -> bool:
    async with opened(files, path) as file:
        return file.was_hashed_as(sha256)


async def hashed(files: Verified, path: Path) -> None:
    async with opened(files, path) as file:
        await file.note(HASH)


async def test_a_file_that_was_hashed_is_known_by_that_hash_alone(files: Verified, path: Path) -> None:
    assert not await known(files, path)
    await hashed(files, path)
    assert await known(files, path)
    assert not await known(files, path, hashlib.sha256(NEW).hexdigest())


def write(path: Path) -> None:
    path.write_bytes(NEW)


def write_and_set_the_time_back(path: Path) -> None:
    before = path.stat()
    path.write_bytes(NEW)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(NEW)
    other.replace(path)


@pytest.mark.parametrize("change", [write, write_and_set_the_time_back, replace])
async def test_a_changed_file_is_not_known(
    files: Verified, path: Path, change: Callable[[Path], None]
) -> None:
    os.utime(path, ns=(0, 10**18))
    await hashed(files, path)
    change(path)
    assert not await known(files, path)


async def test_a_file_written_a_moment_ago_is_not_trusted(path: Path) -> None:
    """A second write within the same tick of the file system's clock would leave the same times."""
    files = Verified(timeout_s=30.0, clock=lambda: path.stat().st_ctime_ns + SETTLED_NS - 1)
    await hashed(files, path)
    assert not await known(files, path)


async def test_a_file_that_is_written_while_it_is_hashed_is_not_trusted(files: Verified, path: Path) -> None:
    os.utime(path, ns=(0, 10**18))
    async with opened(files, path) as file:
        write(path)
        await file.note(HASH)
        assert not file.was_hashed_as(HASH)


async def test_a_file_that_is_read_again_still_holds_what_it_did_unless_it_was_written(
    files: Verified, path: Path
) -> None:
    await hashed(files, path)
    async with opened(files, path) as file:
        assert await file.still_holds(HASH)
        path.rename(path.with_suffix(".moved"))
        assert await file.still_holds(HASH), "its name does not matter to who has it open"
        write(path.with_suffix(".moved"))
        assert not await file.still_holds(HASH)


async def test_the_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "MAX_REMEMBERED", 2)
    files = Verified(timeout_s=30.0, clock=later)
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(OLD)
        await hashed(files, path)
    assert [await known(files, path) for path in paths] == [False, True, True]
