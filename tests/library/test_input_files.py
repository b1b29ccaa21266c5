"""How much of fetching and unpacking one client may have at once."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from comfy_mcp.domain.errors import ErrorCode, InvalidInput, LimitExceeded
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.library import input_files
from comfy_mcp.library.input_files import DOWNLOADS, InputFiles
from comfy_mcp.library.path_guard import OpenFile
from comfy_mcp.library.spool import Spool

LIMIT_S = 30.0
ANY = frozenset[str]()
MEAN, KIND = ClientId("mean"), ClientId("kind")


class Slow:
    """A server that answers once it is let go."""

    def __init__(self) -> None:
        self.open = 0
        self.go_on = asyncio.Event()

    @asynccontextmanager
    async def __call__(self, _url: str, _limit: int, _client: ClientId | None) -> AsyncIterator[Any]:
        self.open += 1
        await self.go_on.wait()
        yield SimpleNamespace(name="a.bin", chunks=self.chunks)

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b"abc"


def files_of(folder: Path, download: Any = None, folders: Any = None, timeout_s: float = 5.0) -> InputFiles:
    none: Any = None
    return InputFiles(
        Spool(folder), folders, none, find_output=none, outputs_of=none, download=download, kept=none,
        limit=10**7, timeout_s=timeout_s,
    )  # fmt: skip


class Hanging(FileIO):
    """A file of a network folder that does not answer, from one call on."""

    def __init__(self, path: Path, go_on: threading.Event, at: str) -> None:
        super().__init__(path)
        self._go_on, self._at = go_on, at

    def read(self, size: int | None = -1) -> Any:
        self._now("read")
        return super().read(-1 if size is None else size)

    def close(self) -> None:
        self._now("close")
        super().close()

    def _now(self, step: str) -> None:
        if step == self._at:
            self._go_on.wait(LIMIT_S)


@pytest.mark.parametrize("at", ["open", "read", "close"])
async def test_a_path_that_hangs_takes_nobody_elses_thread(tmp_path: Path, at: str) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    go_on = threading.Event()

    class Folders:
        roots = (tmp_path,)

        def has(self, _path: str) -> bool:
            go_on.wait(LIMIT_S if at == "open" else 0)
            return True

        def open(self, *_: str) -> OpenFile:
            self.has("")
            file = Hanging(tmp_path / "a.bin", go_on, at)
            return OpenFile(file, os.fstat(file.fileno()))

    files = files_of(tmp_path / "spool", folders=Folders(), timeout_s=LIMIT_S if at == "close" else 0.2)
    try:
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            asked = [group.create_task(kept_or_refused(files)) for _ in range(60)]
            assert await asyncio.to_thread(int, "7") == 7
        assert {each.result() for each in asked} == {"kept" if at == "close" else "no answer in time"}
        assert await files.has_path("a.bin") is (at == "close")
    finally:
        go_on.set()


async def kept_or_refused(files: InputFiles) -> str:
    try:
        assert await files.keep_path("a.bin", ANY, None)
    except InvalidInput as error:
        return error.message.rpartition(": ")[2].removesuffix(".")
    return "kept"


async def test_one_client_leaves_others_room_to_fetch(tmp_path: Path) -> None:
    slow = Slow()
    files = files_of(tmp_path, slow)
    async with asyncio.TaskGroup() as group:
        for share, count in ((MEAN, DOWNLOADS // 2), (KIND, 1), (None, DOWNLOADS // 2 - 1)):
            for _ in range(count):
                group.create_task(files.keep_url("http://x/", ANY, share))
            await asyncio.sleep(0)
            if share == MEAN:
                with pytest.raises(LimitExceeded, match="downloads from URLs") as caught:
                    await files.keep_url("http://x/", ANY, MEAN)
                assert caught.value.code is ErrorCode.TOO_MANY_STREAMS
        assert slow.open == DOWNLOADS
        with pytest.raises(LimitExceeded):
            await files.keep_url("http://x/", ANY, None)
        slow.go_on.set()
    assert await files.keep_url("http://x/", ANY, MEAN)


@pytest.mark.parametrize(
    ("uri", "right"),
    [
        ("data:,%41%42", True),
        ("data:image/png;base64,QUJD RA==", True),
        ("data:;base64,QUJ", False),
        ("data:;base64,", False),
        ("data:", False),
    ],
)
async def test_what_a_data_uri_holds_is_unpacked_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, right: bool
) -> None:
    """Megabytes of %41 take seconds."""
    threads = []
    unpacked = input_files._unpacked

    def noted(text: str, *, packed: bool) -> bytes:
        threads.append(threading.current_thread())
        return unpacked(text, packed=packed)

    monkeypatch.setattr(input_files, "_unpacked", noted)
    if right:
        assert await files_of(tmp_path).keep_data(uri, ANY, None)
    else:
        with pytest.raises(InvalidInput, match="can't be read"):
            await files_of(tmp_path).keep_data(uri, ANY, None)
    assert threading.main_thread() not in threads
    assert len(threads) == 1
