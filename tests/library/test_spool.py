"""Copies of input files: whole or not there, bounded, and gone when nobody names them."""

import asyncio
import errno
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Collection
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfy_mcp.domain.errors import ErrorCode, LimitExceeded, StoreFault
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.library import spool as spool_module
from comfy_mcp.library import spool_room
from comfy_mcp.library.spool import SHARE, UNUSED_S, Spool
from comfy_mcp.library.spool_room import FILE_BYTES, Taken

LIMIT_S = 30.0


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    for each in data:
        yield each


async def keep(
    spool: Spool, *data: bytes, limit: int = 100, suffix: str = ".bin", client: ClientId | None = None
) -> str:
    async with spool.receive(chunks(*data), limit=limit, client=client) as received:
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


async def test_a_call_that_is_cancelled_while_its_file_is_made_leaves_nothing(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    making, go_on, made = threading.Event(), threading.Event(), threading.Event()
    begin = spool._begin

    def slowly(client: ClientId | None) -> object:
        making.set()
        go_on.wait()
        found = begin(client)
        made.set()
        return found

    monkeypatch.setattr(spool, "_begin", slowly)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keep_all(spool, chunks(b"a")))
        await asyncio.to_thread(making.wait)
        task.cancel()
    go_on.set()
    await asyncio.to_thread(made.wait)
    async with asyncio.timeout(LIMIT_S):
        while list(folder.iterdir()):
            await asyncio.sleep(0)


async def test_all_copies_together_are_bounded(folder: Path) -> None:
    spool = Spool(folder, most=FILE_BYTES + 10)
    await keep(spool, b"12345678")
    with pytest.raises(LimitExceeded, match=f"take {FILE_BYTES + 10} bytes already") as caught:
        await keep(spool, b"12345678901")
    assert caught.value.code is ErrorCode.QUEUE_FULL
    await keep(spool, b"1234567890")


@given(
    brought=st.lists(
        st.tuples(st.sampled_from(["a", "b", None]), st.integers(1, 3 * FILE_BYTES), st.integers(0, 3)),
        max_size=12,
    )
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_one_client_leaves_a_quarter_to_the_others(
    tmp_path_factory: pytest.TempPathFactory, brought: list[tuple[str | None, int, int]]
) -> None:
    """Whoever brought the same bytes counts for it, and whoever has all rights counts for nothing."""
    folder, most = tmp_path_factory.mktemp("spool"), 10 * FILE_BYTES
    spool = Spool(folder, most=most)
    own: dict[str | None, dict[str, int]] = {"a": {}, "b": {}, None: {}}
    for name, size, content in brought:
        data = (bytes([content]) * size)[:size]
        kept = {**own["a"], **own["b"], **own[None]}
        room = sum(kept.values()) + size <= most
        room &= name is None or sum(own[name].values()) + size <= most * SHARE
        client = None if name is None else ClientId(name)
        if room:
            own[name][await keep(spool, data, limit=most, client=client)] = max(size, FILE_BYTES)
        else:
            with pytest.raises(LimitExceeded, match="already"):
                await keep(spool, data, limit=most, client=client)


async def test_what_is_on_its_way_counts_too(folder: Path) -> None:
    spool = Spool(folder, most=8 * FILE_BYTES)
    whole = b"x" * (4 * FILE_BYTES)
    mine, other = ClientId("a"), ClientId("b")
    async with spool.receive(chunks(whole), limit=len(whole), client=mine):
        with pytest.raises(LimitExceeded, match="one client's share"):
            await keep(spool, b"y" * 3 * FILE_BYTES, limit=len(whole), client=mine)
        await keep(spool, b"y" * 3 * FILE_BYTES, limit=len(whole), client=other)
    await keep(spool, b"z" * 3 * FILE_BYTES, limit=len(whole), client=mine)


async def test_a_long_file_is_judged_again_while_it_comes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "LOOK_BYTES", FILE_BYTES)
    spool = Spool(folder, most=4 * FILE_BYTES)

    async def slowly() -> AsyncIterator[bytes]:
        yield b"x" * FILE_BYTES
        await keep(spool, b"y" * 2 * FILE_BYTES, limit=4 * FILE_BYTES)  # somebody else's
        yield b"x" * FILE_BYTES
        yield b"x" * FILE_BYTES

    with pytest.raises(LimitExceeded, match="already"):
        async with spool.receive(slowly(), limit=4 * FILE_BYTES):
            pass


async def test_a_folder_of_many_files_is_looked_through_once_and_the_bounds_hold(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept, comes and breaks off meanwhile counts as if it were looked through each time."""
    looks: list[Path] = []

    def counted(path: Path, without: Collection[str]) -> Taken:
        looks.append(path)
        return look(path, without)

    look = spool_room._taken_in
    monkeypatch.setattr(spool_room, "_taken_in", counted)
    monkeypatch.setattr(spool_room, "QUICK_S", -1.0)
    monkeypatch.setattr(spool_room, "PAUSES", 1e9)
    spool, mine, other = Spool(folder, most=8 * FILE_BYTES), ClientId("a"), ClientId("b")
    for number in range(5):
        await keep(spool, b"%d" % number, client=mine)
    await keep(spool, b"4", client=mine)  # once more: it takes nothing
    async with spool.receive(chunks(b"5"), limit=9, client=mine):
        with pytest.raises(LimitExceeded, match="one client's share"):
            await keep(spool, b"6", client=mine)
        await keep(spool, b"7", client=other)
    await keep(spool, b"8", client=mine)
    with pytest.raises(LimitExceeded, match="one client's share"):
        await keep(spool, b"9", client=mine)
    await keep(spool, b"10", client=other)
    with pytest.raises(LimitExceeded, match="already"):
        await keep(spool, b"11")
    assert len(looks) == 1


async def test_the_last_of_the_disk_is_left_to_the_store(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = spool_module.LEFT_FREE
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=free))
    await keep(spool, b"a")
    free -= 1
    with pytest.raises(LimitExceeded, match="disk is nearly full"):
        await keep(spool, b"b")


async def test_the_mark_of_a_copy_goes_after_the_copy(spool: Spool, folder: Path) -> None:
    name = await keep(spool, b"a", client=ClientId("me"))
    mark = next(each.name for each in folder.iterdir() if each.name != name)
    age(folder, mark)
    assert await spool.sweep(await spool.unused(), ()) == 0
    age(folder, name)
    assert await spool.sweep([name], ()) == 1
    age(folder, mark)
    assert await spool.sweep(await spool.unused(), ()) == 1
    assert list(folder.iterdir()) == []


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
