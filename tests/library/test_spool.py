"""Copies of input files: whole or not there, bounded, and gone when nobody names them."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from comfy_mcp.domain.errors import ErrorCode, LimitExceeded, StoreFault
from comfy_mcp.library.spool import UNUSED_S, Spool


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    for each in data:
        yield each


async def keep(spool: Spool, *data: bytes, limit: int = 100, suffix: str = ".bin") -> str:
    async with spool.receive(chunks(*data), limit=limit) as received:
        return await spool.keep(received, suffix)


def age(folder: Path, name: str, seconds: float = UNUSED_S + 60) -> None:
    at = time.time() - seconds
    os.utime(folder / name, (at, at))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "inputs"


@pytest.fixture
def spool(folder: Path) -> Spool:
    return Spool(folder)


async def test_a_file_is_named_by_its_content(spool: Spool, folder: Path) -> None:
    name = await keep(spool, b"ab", b"c")
    assert name == f"{sha256(b'abc').hexdigest()}.bin"
    opened = await spool.open(name)
    assert opened is not None
    with opened[0] as stream:
        assert (stream.read(), opened[1]) == (b"abc", 3)
    assert await keep(spool, b"abc") == name
    assert [each.name for each in folder.iterdir()] == [name]
    assert (folder.stat().st_mode & 0o777, (folder / name).stat().st_mode & 0o777) == (0o700, 0o600)


async def test_what_is_not_kept_leaves_nothing(spool: Spool, folder: Path) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield b"a"
        raise ConnectionError("gone")

    async with spool.receive(chunks(b"abc"), limit=100) as received:
        assert (received.size, received.head) == (3, b"abc")
    with pytest.raises(ConnectionError):
        async with spool.receive(breaks(), limit=100):
            pass
    with pytest.raises(LimitExceeded) as caught:
        await keep(spool, b"a" * 60, b"a" * 60)
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert list(folder.iterdir()) == []


async def test_a_call_that_is_cancelled_leaves_nothing(spool: Spool, folder: Path) -> None:
    begun = asyncio.Event()

    async def hangs() -> AsyncIterator[bytes]:
        yield b"a"
        begun.set()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(keep_all(spool, hangs()))
        await begun.wait()
        task.cancel()
    assert list(folder.iterdir()) == []


async def keep_all(spool: Spool, content: AsyncIterator[bytes]) -> None:
    async with spool.receive(content, limit=100):
        pass


async def test_all_copies_together_are_bounded(folder: Path) -> None:
    spool = Spool(folder, most=10)
    await keep(spool, b"12345678")
    with pytest.raises(LimitExceeded, match="take 10 bytes already"):
        await keep(spool, b"123")


async def test_a_disk_that_takes_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreFault, match="can't be kept") as caught:
        await keep(Spool(tmp_path / "file" / "inputs"), b"a")
    assert "COMFY_BRIDGE_STATE_DIR" in caught.value.next_step
    assert caught.value.retryable


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES, errno.ESTALE, errno.ENFILE])
async def test_a_copy_that_can_not_be_read_now_is_not_gone(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Only a file that does not exist is gone."""
    name = await keep(spool, b"abc")

    def fails(*_args: object, **_named: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", fails)
        patched.setattr(os, "utime", fails)
        with pytest.raises(StoreFault, match=os.strerror(number)) as caught:
            await spool.open(name)
        assert caught.value.retryable
        with pytest.raises(StoreFault, match=os.strerror(number)):
            await spool.touch(name)
    assert await spool.touch(name)
    opened = await spool.open(name)
    assert opened is not None
    opened[0].close()


async def test_what_nobody_names_goes_after_its_time(spool: Spool, folder: Path) -> None:
    old, named, young = [await keep(spool, each) for each in (b"old", b"named", b"young")]
    for name in (old, named):
        age(folder, name)
    unused = await spool.unused()
    assert sorted(unused) == sorted([old, named])
    assert await spool.sweep(unused, {named}) == 1
    assert sorted(each.name for each in folder.iterdir()) == sorted([named, young])
    assert await spool.unused() == []  # the named one counts as used now
    assert await spool.open(old) is None
    assert not await spool.touch(old)


async def test_what_is_used_while_it_is_swept_stays(spool: Spool, folder: Path) -> None:
    name = await keep(spool, b"a")
    age(folder, name)
    unused = await spool.unused()
    assert await spool.touch(name)  # another submit names it, in this moment
    assert await spool.sweep(unused, ()) == 0
    assert [each.name for each in folder.iterdir()] == [name]


async def test_parts_of_a_process_that_died_go_too(spool: Spool, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / ".part-x").write_bytes(b"half")
    age(folder, ".part-x")
    assert await spool.sweep(await spool.unused(), ()) == 1
    assert list(folder.iterdir()) == []


async def test_no_folder_is_nothing_to_sweep(spool: Spool) -> None:
    assert await spool.unused() == []
