"""Large outputs from the engine and from its folder, sent by the kernel and by Python: the same bytes, the
same headers, and a broken transfer where something breaks."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from comfy_mcp.domain.catalog import Output
from comfy_mcp.library import verified
from comfy_mcp.library.path_guard import open_inside
from http_sidecar.bounds import Bounds
from http_sidecar.rest import direct
from http_sidecar.rest.direct import TAIL_BYTES, send_directly
from tests.support.files_engine import PATH, OutputHouse, Zeros, open_output_house

MB = 10**6
CONTENT = os.urandom(5 * MB)
TAG = '"one"'


@dataclass(kw_only=True)
class Place:
    """Where the output lies, and which way its bytes go. `asked`: how often the kernel was asked to
    send, `sent`: whether it did, noted when its client may have the whole already."""

    house: OutputHouse
    folder: Path | None
    output: Output
    asked: int = 0
    sent: list[bool] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"{PATH}/{self.output.id}"

    async def get(self, **headers: str) -> Any:
        return await self.house.get(self.output.id, **headers)

    def put(self, content: Any, tag: str = TAG) -> None:
        if self.folder is None:
            self.house.engine.files["x.bin"] = content
            self.house.engine.tags["x.bin"] = tag
        elif isinstance(content, Zeros):
            with (self.folder / "x.bin").open("wb") as file:
                file.truncate(len(content))
        else:
            (self.folder / "x.bin").write_bytes(content)


async def place_of(house: OutputHouse, folder: Path | None, content: Any) -> Place:
    """With the content's hash known, as it is after the first answer."""
    output = await house.add("x.bin", None, size=len(content))
    place = Place(house=house, folder=folder, output=output)
    place.put(content)
    assert (await place.get()).data == content[: len(content)]
    async with asyncio.timeout(30):
        while (known := await house.v1.services.store.get_output(output.id)) is None or known.sha256 is None:
            await house.v1("GET", "/health")
    return place


WHERE = ["engine", "folder"]
HOW = ["kernel", "python"]


@pytest.fixture(params=HOW)
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(verified, "SETTLED_NS", 0)  # a file need not be old to be trusted
    if request.param == "python":
        monkeypatch.setattr(direct.ClientSocket, "of", lambda _: None)
    return str(request.param)


@pytest.fixture(params=WHERE)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    if request.param == "engine":
        return None
    (tmp_path / "output").mkdir()
    return tmp_path / "output"


def settings_for(folder: Path | None, **more: Any) -> dict[str, Any]:
    return more if folder is None else {"outputs_dir": folder, **more}


@pytest.fixture
async def place(
    tmp_path: Path, folder: Path | None, how: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    async with open_output_house(tmp_path, **settings_for(folder)) as house:
        place = await place_of(house, folder, CONTENT)

        async def noted(*args: Any, **kwargs: Any) -> bool:
            place.asked += 1
            place.sent.append(await send_directly(*args, **kwargs))
            return place.sent[-1]

        monkeypatch.setattr("http_sidecar.rest.output_bytes.send_directly", noted)
        yield place
        assert all(sent == (how == "kernel") for sent in place.sent)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def open_below(folder: Path) -> list[str]:
    """Files of the folder that this process has open."""
    links = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it is closed by now
            links.append(str(each.readlink()))
    return [link for link in links if link.startswith(str(folder))]


async def test_the_whole_comes_with_its_headers_and_the_connection_is_kept(place: Place) -> None:
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as one_connection:
        for _ in range(3):
            async with one_connection.get(f"{place.house.v1.url}{place.path}") as answer:
                assert answer.status == 200
                assert answer.headers["ETag"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
                assert answer.headers["Content-Length"] == str(len(CONTENT))
                assert await answer.read() == CONTENT
                assert answer.connection is None
                [kept] = [len(each) for each in connector._conns.values()]
                assert kept == 1, "the connection can be used again"
        async with one_connection.get(f"{place.house.v1.url}/health") as answer:
            assert answer.status == 200
    assert place.asked == 3


async def test_ranges_and_conditions_hold(place: Place) -> None:
    tag = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    for asked, start, stop in (
        (f"bytes={MB}-{3 * MB - 1}", MB, 3 * MB),
        (f"bytes=-{2 * MB}", -2 * MB, None),
        ("bytes=7-", 7, None),
    ):
        answer = await place.get(Range=asked)
        assert (answer.status, answer.data == CONTENT[start:stop]) == (206, True), asked
    assert (await place.get(Range="bytes=1000000-", If_Range=tag)).data == CONTENT[MB:]
    assert (await place.get(Range="bytes=1000000-", If_Range='"other"')).data == CONTENT
    assert place.asked == 5
    assert (await place.get(If_None_Match=tag)).status == 304
    assert (await place.get(If_Match='"other"')).status == 412
    head = await place.house.v1("HEAD", place.path)
    assert (head.data, head.headers["Content-Length"]) == (b"", str(len(CONTENT)))
    assert place.asked == 5


async def test_a_file_that_was_replaced_is_cut(place: Place) -> None:
    place.put(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), tag='"two"')
    with pytest.raises(aiohttp.ClientPayloadError):
        await place.get()
    assert place.asked == 0, "it is hashed again"


async def test_clients_that_go_leave_nothing_open(place: Place) -> None:
    await place.get()
    before = descriptors()
    for _ in range(5):
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"{place.house.v1.url}{place.path}")
            await answer.content.readexactly(1000)
            answer.close()
    assert (await place.get()).data == CONTENT
    async with asyncio.timeout(30):
        while descriptors() > before:  # no request here: its own connection would be counted
            await asyncio.sleep(0)


async def test_several_at_once_get_their_own(place: Place) -> None:
    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(place.get(Range=f"bytes={start}-")) for start in range(8)]
    assert [each.result().data == CONTENT[start:] for start, each in enumerate(answers)] == [True] * 8


@pytest.mark.usefixtures("how")
async def test_a_client_that_reads_nothing_is_cut_off(tmp_path: Path, folder: Path | None) -> None:
    settings = settings_for(folder, bounds=Bounds(send_timeout_s=0.2))
    async with open_output_house(tmp_path, **settings) as house:
        place = await place_of(house, folder, Zeros(64 * MB))
        deaf, writer = await asyncio.open_connection(
            *house.v1.url.removeprefix("http://").split(":"), limit=1024
        )
        house.engine.sent = 0
        writer.write(f"GET {place.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert await deaf.readline() == b"HTTP/1.1 200 OK\r\n"
        async with asyncio.timeout(30):
            if folder is None:
                await house.engine.idle.wait()
            else:
                while open_below(folder):
                    await asyncio.sleep(0)
            with contextlib.suppress(ConnectionError):
                read = len(await deaf.read())
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        assert read < 64 * MB
        assert house.engine.sent < 50 * MB


@pytest.mark.usefixtures("how")
@pytest.mark.parametrize("fault", ["ends_after", "pauses_after"])
async def test_an_engine_that_breaks_off_or_falls_silent_breaks_the_transfer(
    tmp_path: Path, fault: str
) -> None:
    async with open_output_house(tmp_path, request_timeout_s=0.5) as house:
        place = await place_of(house, None, CONTENT)
        setattr(house.engine, fault, 3 * MB)
        for headers in ({}, {"Range": "bytes=1000-"}):
            with pytest.raises(aiohttp.ClientPayloadError):
                await place.get(**headers)
        setattr(house.engine, fault, None)
        assert (await place.get()).data == CONTENT


async def test_a_file_that_gets_another_content_while_it_is_sent_is_cut(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the last bytes are on their way by then."""
    for name in ("FileOnDisk", "FileOnEngine"):
        still_holds = getattr(verified, name).still_holds

        async def changed(self: Any, sha256: str, still_holds: Any = still_holds) -> bool:
            place.put(CONTENT[:-1] + b"?", tag='"two"')
            return bool(await still_holds(self, sha256))

        monkeypatch.setattr(getattr(verified, name), "still_holds", changed)
    async with aiohttp.ClientSession() as session, session.get(f"{place.house.v1.url}{place.path}") as answer:
        received = await answer.content.read(len(CONTENT) - TAIL_BYTES)
        assert CONTENT.startswith(received)
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()


async def test_a_file_that_is_deleted_while_it_is_sent_comes_whole(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FileOnDisk", "FileOnEngine"):
        still_holds = getattr(verified, name).still_holds

        async def deleted(self: Any, sha256: str, still_holds: Any = still_holds) -> bool:
            place.house.engine.files.pop("x.bin", None)
            if place.folder is not None:
                (place.folder / "x.bin").unlink()
            return bool(await still_holds(self, sha256))

        monkeypatch.setattr(getattr(verified, name), "still_holds", deleted)
    assert (await place.get()).data == CONTENT


@pytest.mark.parametrize("asked", [None, "bytes=1000-"])
@pytest.mark.parametrize("folder", ["folder"], indirect=True)
async def test_a_file_that_gets_shorter_while_it_is_sent_is_cut(
    place: Place, asked: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shortened(*args: Any) -> Any:
        found = open_inside(*args)
        assert place.folder is not None
        os.truncate(place.folder / "x.bin", 2 * MB)
        return found

    monkeypatch.setattr("comfy_mcp.library.outputs.open_inside", shortened)
    with pytest.raises(aiohttp.ClientPayloadError):
        await place.get(**({} if asked is None else {"Range": asked}))
