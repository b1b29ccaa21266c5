"""The background work: folders watched, files hashed."""

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.library import ModelLibrary, model_disk, model_hashes
from comfy_mcp.library.model_files import FileKey, Scan, hash_file, scan_models
from comfy_mcp.settings import Settings

PATIENCE_S = 20
"""Far longer than anything here takes; a test that needs it has failed."""


class Bell:
    """An `on_change` that can be waited for, again and again."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    async def __call__(self) -> None:
        self._rung.set()

    async def wait(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._rung.wait()
        self._rung.clear()


@dataclass
class FakeCache:
    """The store's table of hashes. `stored` wakes whoever waits for the next one."""

    hashes: dict[tuple[str, int, int], str] = field(default_factory=dict)
    fault: StoreFault | None = None
    stored: asyncio.Event = field(default_factory=asyncio.Event)

    async def file_hash(self, path: str, size: int, mtime_ns: int) -> str | None:
        if self.fault is not None:
            raise self.fault
        return self.hashes.get((path, size, mtime_ns))

    async def put_file_hash(self, path: str, size: int, mtime_ns: int, sha256: str) -> None:
        self.stored.set()
        if self.fault is not None:
            raise self.fault
        self.hashes[path, size, mtime_ns] = sha256

    async def next_one(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.stored.wait()
        self.stored.clear()


@asynccontextmanager
async def running(library: ModelLibrary) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(library.run())
        yield
        task.cancel()


async def names_of(library: ModelLibrary) -> list[str]:
    return [model.name for model in (await library.list()).items]


async def hashes_of(library: ModelLibrary) -> list[str | None]:
    return [model.sha256 for model in (await library.list()).items]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def vae(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "vae"
    folder.mkdir(parents=True)
    (folder / "a.pt").write_bytes(b"first")
    return folder


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses are for production; without a watcher no scan is trusted."""
    monkeypatch.setattr(model_disk, "UNWATCHED_TTL_S", 0.0)
    monkeypatch.setattr(model_disk, "LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(model_disk, "POLL_DELAY_MS", 20)


# ---------------------------------------------------------------------------- the watch


@pytest.mark.parametrize("force_polling", [False, True])
async def test_files_that_come_and_go_are_told(vae: Path, force_polling: bool) -> None:
    bell = Bell()
    settings = Settings(models_dir=vae.parent, force_polling=force_polling)
    library = ModelLibrary(settings, timeout_s=30, engines={}, on_change=bell)
    async with running(library):
        await watched(library)
        (vae / "b.pt").write_bytes(b"second")
        await bell.wait()
        assert await names_of(library) == ["a.pt", "b.pt"]
        (vae / "a.pt").rename(vae / "c.pt")
        await bell.wait()
        assert await names_of(library) == ["b.pt", "c.pt"]
        (vae.parent / "embeddings").mkdir()
        await bell.wait()
        assert "embeddings" in await library.types()


async def test_a_linked_folder_is_watched_too(vae: Path, tmp_path: Path) -> None:
    (tmp_path / "other-disk").mkdir()
    (vae / "linked").symlink_to(tmp_path / "other-disk")
    bell = Bell()
    library = ModelLibrary(Settings(models_dir=vae.parent), timeout_s=30, engines={}, on_change=bell)
    async with running(library):
        await watched(library)
        (tmp_path / "other-disk" / "b.pt").write_bytes(b"second")
        await bell.wait()
        assert await names_of(library) == ["a.pt", "linked/b.pt"]


async def test_a_watched_scan_is_not_repeated(vae: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = 0

    def counting(models_dir: Path | None, folders: Mapping[str, Path]) -> Scan:
        nonlocal scans
        scans += 1
        return scan_models(models_dir, folders)

    monkeypatch.setattr(model_disk, "scan_models", counting)
    library = ModelLibrary(Settings(models_dir=vae.parent), timeout_s=30, engines={})
    async with running(library):
        await watched(library)
        await names_of(library)
        before = scans
        for _ in range(5):
            await names_of(library)
        assert scans == before


async def test_a_folder_that_appears_later_is_watched_from_then_on(tmp_path: Path) -> None:
    bell = Bell()
    library = ModelLibrary(Settings(models_dir=tmp_path / "later"), timeout_s=30, engines={}, on_change=bell)
    async with running(library):
        assert await names_of(library) == []
        (tmp_path / "later" / "vae").mkdir(parents=True)
        await bell.wait()
        await watched(library)
        (tmp_path / "later" / "vae" / "a.pt").write_bytes(b"first")
        await bell.wait()
        assert await names_of(library) == ["a.pt"]


async def test_a_folder_that_is_replaced_is_watched_again(vae: Path) -> None:
    bell = Bell()
    library = ModelLibrary(Settings(models_dir=vae.parent), timeout_s=30, engines={}, on_change=bell)
    async with running(library):
        await watched(library)
        vae.parent.rename(vae.parent.with_name("old"))
        vae.mkdir(parents=True)
        (vae / "new.pt").write_bytes(b"other")
        async with asyncio.timeout(PATIENCE_S):
            while await names_of(library) != ["new.pt"]:
                await bell.wait()


async def test_where_watching_fails_the_folders_are_scanned_now_and_then(vae: Path) -> None:
    """The polling watcher can't stand a loop of links."""
    (vae / "loop").symlink_to(vae)
    bell = Bell()
    settings = Settings(models_dir=vae.parent, force_polling=True)
    library = ModelLibrary(settings, timeout_s=30, engines={}, on_change=bell)
    async with running(library):
        await names_of(library)
        for number in range(3):
            (vae / f"b{number}.pt").write_bytes(b"second")
            await bell.wait()
        assert await names_of(library) == ["a.pt", "b0.pt", "b1.pt", "b2.pt"]


async def test_without_folders_there_is_nothing_to_run() -> None:
    async with asyncio.timeout(PATIENCE_S):
        await ModelLibrary(Settings(models_dir=None), timeout_s=30, engines={}).run()


async def watched(library: ModelLibrary) -> None:
    """Until the watcher has said that it is on: changes from now on are not missed."""
    async with asyncio.timeout(PATIENCE_S):
        await library.watched.wait()


# ---------------------------------------------------------------------------- hashes


async def test_a_listed_file_is_hashed_in_the_background_and_cached(vae: Path) -> None:
    cache = FakeCache()
    library = ModelLibrary(Settings(models_dir=vae.parent), timeout_s=30, engines={}, hashes=cache)
    assert await hashes_of(library) == [None]
    async with running(library):
        await cache.next_one()
    assert await hashes_of(library) == [sha256(b"first")]
    status = (vae / "a.pt").stat()
    assert cache.hashes == {(str(vae / "a.pt"), 5, status.st_mtime_ns): sha256(b"first")}


async def test_a_cached_hash_is_not_computed_again(vae: Path) -> None:
    status = (vae / "a.pt").stat()
    cache = FakeCache({(str(vae / "a.pt"), 5, status.st_mtime_ns): "cached"})
    library = ModelLibrary(Settings(models_dir=vae.parent), timeout_s=30, engines={}, hashes=cache)
    assert await hashes_of(library) == ["cached"]


async def test_changed_bytes_have_no_hash_until_they_are_hashed(vae: Path) -> None:
    cache = FakeCache()
    library = ModelLibrary(Settings(models_dir=vae.parent), timeout_s=30, engines={}, hashes=cache)
    async with running(library):
        await hashes_of(library)
        await cache.next_one()
    assert await hashes_of(library) == [sha256(b"first")]
    (vae / "a.pt").write_bytes(b"other")
    os.utime(vae / "a.pt", ns=(1, 1))
    assert await hashes_of(library) == [None]
    async with running(library):
        await cache.next_one()
    assert await hashes_of(library) == [sha256(b"other")]


async def test_a_store_that_is_down_costs_only_the_cache(vae: Path) -> None:
    cache = FakeCache(fault=StoreFault("down", next_step=""))
    library = ModelLibrary(Settings(models_dir=vae.parent), timeout_s=30, engines={}, hashes=cache)
    async with running(library):
        assert await hashes_of(library) == [None]
        await cache.next_one()
    assert await hashes_of(library) == [sha256(b"first")]


async def test_a_file_that_can_not_be_read_does_not_stop_the_others(
    vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def failing(key: FileKey, stop: threading.Event) -> str | None:
        tries.append(Path(key.path).name)
        if key.path.endswith("a.pt"):
            raise PermissionError(key.path)
        return hash_file(key, stop)

    monkeypatch.setattr(model_hashes, "hash_file", failing)
    (vae / "b.pt").write_bytes(b"second")
    cache = FakeCache()
    library = ModelLibrary(Settings(models_dir=vae.parent), timeout_s=30, engines={}, hashes=cache)
    async with running(library):
        await hashes_of(library)
        await cache.next_one()
        assert await hashes_of(library) == [None, sha256(b"second")]
    assert tries == ["a.pt", "b.pt"]


async def test_hashing_can_be_switched_off(vae: Path) -> None:
    cache = FakeCache({(str(vae / "a.pt"), 5, (vae / "a.pt").stat().st_mtime_ns): "cached"})
    settings = Settings(models_dir=vae.parent, hash_models=False)
    library = ModelLibrary(settings, timeout_s=30, engines={}, hashes=cache)
    assert await hashes_of(library) == [None]


async def test_shutting_down_stops_a_hash_half_way(vae: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, results = threading.Event(), []

    def endless(key: FileKey, stop: threading.Event) -> str | None:
        started.set()
        results.append(stop.wait(PATIENCE_S))
        return None

    monkeypatch.setattr(model_hashes, "hash_file", endless)
    library = ModelLibrary(Settings(models_dir=vae.parent), timeout_s=30, engines={}, hashes=FakeCache())
    async with running(library):
        await hashes_of(library)
        assert await asyncio.to_thread(started.wait, PATIENCE_S)
    await asyncio.get_running_loop().shutdown_default_executor()
    assert results == [True]


def key_of(path: Path) -> FileKey:
    status = path.stat()
    return FileKey(path=str(path), size=status.st_size, mtime_ns=status.st_mtime_ns)


def test_a_file_that_changed_since_it_was_listed_has_no_hash(vae: Path) -> None:
    key = key_of(vae / "a.pt")
    assert hash_file(key, threading.Event()) == sha256(b"first")
    (vae / "a.pt").write_bytes(b"longer than before")
    assert hash_file(key, threading.Event()) is None


def test_a_stopped_hash_is_no_hash(vae: Path) -> None:
    stop = threading.Event()
    stop.set()
    assert hash_file(key_of(vae / "a.pt"), stop) is None
