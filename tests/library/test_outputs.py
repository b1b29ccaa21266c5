"""The bytes of outputs, from the folder and from engines."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from comfy_mcp.domain.catalog import Output, OutputKind
from comfy_mcp.domain.errors import (
    BridgeError,
    ErrorCode,
    LimitExceeded,
    NotFound,
)
from comfy_mcp.domain.ids import ClientId, EngineId
from comfy_mcp.library import OutputData, OutputFiles, Span, path_guard
from comfy_mcp.library.output_content import HASHED_HERE
from comfy_mcp.library.path_guard import OpenFile, open_inside
from comfy_mcp.settings import Settings
from tests.support.file_server import ENGINE, FakeServer, output_of, png
from tests.support.unprivileged import unprivileged

ME = ClientId("me")


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "output"
    path.mkdir()
    return path


@pytest.fixture
def on_disk(folder: Path, server: FakeServer) -> OutputFiles:
    settings = Settings(engine_urls=("one=http://127.0.0.1:1",), outputs_dir=folder)
    return OutputFiles(settings, engines={ENGINE: server})


@pytest.fixture
def remote(server: FakeServer) -> OutputFiles:
    return OutputFiles(
        Settings(engine_urls=("one=http://127.0.0.1:1",)), engines={ENGINE: server}, memory_bytes=1000
    )


SMALL = 2**20


async def refusal(files: OutputFiles, output: Output) -> BridgeError:
    """The same for a small output, which is read at once."""
    with pytest.raises(BridgeError) as caught:
        await files.read(output)
    with pytest.raises(BridgeError) as at_once:
        await files.read_small(output, limit=SMALL)
    assert (at_once.value.code, at_once.value.message) == (caught.value.code, caught.value.message)
    return caught.value


async def both_read(files: OutputFiles, output: Output) -> OutputData:
    """The same for a small output, which is read at once."""
    data = await files.read(output)
    assert await files.read_small(output, limit=len(data.data)) == data
    if data.data:
        assert await files.read_small(output, limit=len(data.data) - 1) is None
    return data


async def test_reads_from_the_folder_without_asking_the_engine(
    on_disk: OutputFiles, folder: Path, server: FakeServer
) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a.png").write_bytes(png())
    content = await both_read(on_disk, output_of("a.png", subfolder="sub"))
    assert content.data == png()
    assert content.media_type == "image/png"
    assert server.asked == []


async def test_streams_a_large_file_in_chunks(on_disk: OutputFiles, folder: Path) -> None:
    data = bytes(range(256)) * 4096
    (folder / "a.bin").write_bytes(data)
    async with on_disk.open(output_of("a.bin")) as content:
        assert content.size == len(data)
        assert content.media_type == "application/octet-stream"
        chunks = [chunk async for chunk in content.chunks]
    assert len(chunks) > 1
    assert b"".join(chunks) == data


async def test_an_empty_file_is_an_empty_output(on_disk: OutputFiles, folder: Path) -> None:
    (folder / "a.txt").touch()
    assert (await both_read(on_disk, output_of("a.txt"))).data == b""


async def test_what_the_folder_lacks_comes_from_the_engine(on_disk: OutputFiles, server: FakeServer) -> None:
    server.files["output//a.png"] = png()
    assert (await both_read(on_disk, output_of("a.png"))).data == png()


async def test_temporary_files_come_from_the_engine(
    on_disk: OutputFiles, folder: Path, server: FakeServer
) -> None:
    (folder / "a.png").write_bytes(b"another file of the same name")
    server.files["temp//a.png"] = png()
    assert (await both_read(on_disk, output_of("a.png", folder="temp"))).data == png()


async def test_with_several_engines_the_folder_is_not_read(folder: Path, server: FakeServer) -> None:
    (folder / "a.png").write_bytes(b"of the other engine, which uses the same names")
    server.files["output//a.png"] = png()
    settings = Settings(engine_urls=("one=http://127.0.0.1:1", "two=http://127.0.0.1:2"), outputs_dir=folder)
    files = OutputFiles(settings, engines={ENGINE: server})
    assert (await both_read(files, output_of("a.png"))).data == png()


@pytest.mark.parametrize("tells_size", [True, False])
async def test_reads_from_the_engine_and_closes_the_answer(
    remote: OutputFiles, server: FakeServer, tells_size: bool
) -> None:
    server.tells_size = tells_size
    server.files["output/sub/a.png"] = png()
    async with remote.open(output_of("a.png", subfolder="sub")) as content:
        assert server.open_now == 1
        assert content.size == (len(png()) if tells_size else None)
        assert content.media_type == "image/png"
    assert server.open_now == 0


async def test_the_first_bytes_decide_over_the_suffix(remote: OutputFiles, server: FakeServer) -> None:
    server.files["output//a.webp"] = png()
    assert (await both_read(remote, output_of("a.webp"))).media_type == "image/png"


async def test_a_text_has_no_file(remote: OutputFiles, server: FakeServer) -> None:
    output = output_of("", kind=OutputKind.TEXT)
    output = replace(output, file=replace(output.file, text="grüß"))
    content = await both_read(remote, output)
    assert content.data == "grüß".encode()
    assert content.media_type == "text/plain"
    assert server.asked == []


async def test_a_file_that_is_gone_says_so(on_disk: OutputFiles) -> None:
    error = await refusal(on_disk, output_of("a.png"))
    assert isinstance(error, NotFound)
    assert error.code is ErrorCode.OUTPUT_GONE
    assert "does not have it" in error.message


async def test_a_folder_that_this_user_may_not_read_says_so_unless_the_engine_has_the_file(
    on_disk: OutputFiles, folder: Path, server: FakeServer
) -> None:
    (folder / "a.png").write_bytes(png())
    folder.chmod(0o000)
    try:
        with unprivileged():
            error = await refusal(on_disk, output_of("a.png"))
            server.files["output//a.png"] = png()
            served = await both_read(on_disk, output_of("a.png"))
    finally:
        folder.chmod(0o700)
    assert error.code is ErrorCode.OUTPUT_UNREADABLE
    assert "COMFY_BRIDGE_OUTPUTS_DIR" in error.next_step
    assert served.data == png()


async def test_an_engine_that_is_no_longer_configured_says_so(server: FakeServer) -> None:
    files = OutputFiles(Settings(), engines={EngineId("other"): server})
    error = await refusal(files, output_of("a.png"))
    assert error.code is ErrorCode.OUTPUT_GONE
    assert "one is no longer configured" in error.message


async def test_an_engine_that_is_down_is_not_a_file_that_is_gone(
    remote: OutputFiles, server: FakeServer
) -> None:
    server.down = True
    assert (await refusal(remote, output_of("a.png"))).code is ErrorCode.ENGINE_UNREACHABLE


async def test_another_file_under_the_old_name_is_not_served(
    on_disk: OutputFiles, folder: Path, server: FakeServer
) -> None:
    """ComfyUI's counter starts again once the files are deleted, so names come back."""
    (folder / "a.png").write_bytes(png((30, 30)))
    longer = replace(output_of("a.png"), size=10**6)
    assert (await refusal(on_disk, longer)).code is ErrorCode.OUTPUT_GONE
    same_size = replace(output_of("a.png"), size=len(png((30, 30))), sha256=hashlib.sha256(b"").hexdigest())
    assert (await refusal(on_disk, same_size)).code is ErrorCode.OUTPUT_GONE
    right = replace(same_size, sha256=hashlib.sha256(png((30, 30))).hexdigest())
    assert (await both_read(on_disk, right)).data == png((30, 30))


@pytest.mark.parametrize(
    ("name", "subfolder"),
    [
        ("../a.png", ""),
        ("..", ""),
        ("/etc/passwd", ""),
        ("a.png", "../.."),
        ("a.png", "x/../../.."),
        ("a.png", "..\\.."),
        ("a.png", "/etc"),
        ("..\\a.png", ""),
        ("a\0.png", ""),
        ("a.png", "x\0"),
    ],
)
async def test_a_name_that_leads_out_is_refused_and_never_asked_for(
    on_disk: OutputFiles, server: FakeServer, name: str, subfolder: str
) -> None:
    error = await refusal(on_disk, output_of(name, subfolder=subfolder))
    assert error.code is ErrorCode.PATH_NOT_ALLOWED
    assert server.asked == []


async def test_a_link_out_of_the_folder_is_left_to_the_engine(
    on_disk: OutputFiles, folder: Path, server: FakeServer
) -> None:
    secret = folder.parent / "secret.png"
    secret.write_bytes(b"secret")
    (folder / "a.png").symlink_to(secret)
    assert (await refusal(on_disk, output_of("a.png"))).code is ErrorCode.OUTPUT_GONE
    assert len(server.asked) == 2


@pytest.mark.parametrize("tells_size", [True, False])
async def test_a_file_over_the_limit_is_not_read_into_memory(
    remote: OutputFiles, server: FakeServer, tells_size: bool
) -> None:
    server.tells_size = tells_size
    server.files["output//a.bin"] = bytes(1001)
    with pytest.raises(LimitExceeded) as caught:
        await remote.read(output_of("a.bin"))
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert await remote.read_small(output_of("a.bin"), limit=1000) is None
    assert server.open_now == 0
    server.files["output//a.bin"] = bytes(1000)
    assert len((await remote.read(output_of("a.bin"))).data) == 1000
    with pytest.raises(LimitExceeded):
        await remote.read(output_of("a.bin"), limit=999)


async def test_a_preview_of_an_image(on_disk: OutputFiles, folder: Path) -> None:
    (folder / "a.png").write_bytes(png((2000, 1000)))
    preview = await on_disk.preview(output_of("a.png"), client=ME)
    assert (preview.width, preview.height, preview.media_type) == (768, 384, "image/jpeg")
    smaller = await on_disk.preview(output_of("a.png"), client=ME, max_px=100)
    assert (smaller.width, smaller.height) == (100, 50)
    not_larger = await on_disk.preview(output_of("a.png"), client=ME, max_px=5000)
    assert (not_larger.width, not_larger.height) == (768, 384)


async def test_other_kinds_have_no_preview(remote: OutputFiles, server: FakeServer) -> None:
    with pytest.raises(BridgeError, match="no preview of a video") as caught:
        await remote.preview(output_of("a.mp4", kind=OutputKind.VIDEO), client=ME)
    assert caught.value.code is ErrorCode.OUTPUT_UNREADABLE
    with pytest.raises(BridgeError, match="no preview of an SVG"):
        await remote.preview(output_of("a.svg"), client=ME)
    assert server.asked == []


async def test_the_beginning_of_a_text_file_is_text(
    on_disk: OutputFiles, folder: Path, server: FakeServer
) -> None:
    (folder / "notes.txt").write_bytes(b"\xef\xbb\xbfna\xc3\xafve \xff")
    notes = output_of("notes.txt", kind=OutputKind.TEXT)
    assert await on_disk.text(notes) == "naïve \ufffd"
    assert await on_disk.text(notes, limit=5) == "na…"
    server.files["output//long.csv"] = b"0123456789"
    server.tells_size = False
    assert await on_disk.text(output_of("long.csv", kind=OutputKind.TEXT), limit=4) == "0123…"
    assert server.open_now == 0


async def part_of(files: OutputFiles, output: Output, start: int, stop: int) -> tuple[bytes, int | None]:
    async with files.open(output, part=Span(start=start, stop=stop)) as content:
        return b"".join([chunk async for chunk in content.chunks]), content.size


DIGITS = b"0123456789" * 10


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (5, 20), (99, 100), (0, 100)])
async def test_a_part_is_cut_from_the_file_wherever_it_is(
    on_disk: OutputFiles, remote: OutputFiles, folder: Path, server: FakeServer, start: int, stop: int
) -> None:
    (folder / "here.png").write_bytes(DIGITS)
    server.files["output//there.png"] = DIGITS
    expected = (DIGITS[start:stop], 100)
    assert await part_of(on_disk, output_of("here.png"), start, stop) == expected
    assert await part_of(remote, output_of("there.png"), start, stop) == expected
    server.knows_ranges = False
    assert await part_of(remote, output_of("there.png"), start, stop) == expected


async def test_a_part_of_a_text_is_cut_from_its_bytes(remote: OutputFiles) -> None:
    output = output_of("", kind=OutputKind.TEXT)
    spoken = replace(output, file=replace(output.file, text="grün"))
    assert await part_of(remote, spoken, 2, 4) == ("ü".encode(), 5)


async def test_a_part_beyond_a_file_that_has_shrunk_is_gone(remote: OutputFiles, server: FakeServer) -> None:
    server.files["output//a.png"] = b"short"
    with pytest.raises(NotFound) as caught:
        await part_of(remote, replace(output_of("a.png"), size=100), 50, 60)
    assert caught.value.code is ErrorCode.OUTPUT_GONE


async def test_the_size_is_asked_for_only_where_it_is_not_known(
    remote: OutputFiles, server: FakeServer
) -> None:
    server.files["output//a.png"] = b"12345"
    assert await remote.size(replace(output_of("a.png"), size=7)) == 7
    assert server.asked == []
    assert await remote.size(output_of("a.png")) == 5


async def test_a_preview_fits_into_a_box(remote: OutputFiles, server: FakeServer) -> None:
    server.files["output//a.png"] = png((40, 20))
    preview = await remote.preview(output_of("a.png"), client=ME, box=(30, 8))
    assert (preview.width, preview.height) == (16, 8)


LONG = bytes(HASHED_HERE + 1)


@pytest.mark.parametrize("data", [png(), LONG])
async def test_a_small_output_is_checked_against_its_hash(
    on_disk: OutputFiles, folder: Path, server: FakeServer, data: bytes
) -> None:
    (folder / "here.png").write_bytes(data)
    server.files["output//there.png"] = data
    for name in ("here.png", "there.png"):
        right = replace(output_of(name), sha256=hashlib.sha256(data).hexdigest())
        assert (await both_read(on_disk, right)).data == data
        wrong = replace(right, sha256=hashlib.sha256(b"").hexdigest())
        assert (await refusal(on_disk, wrong)).code is ErrorCode.OUTPUT_GONE
        other_size = replace(right, size=len(data) - 1)
        assert (await refusal(on_disk, other_size)).code is ErrorCode.OUTPUT_GONE


async def test_an_output_of_unknown_length_is_not_read_at_once(
    remote: OutputFiles, server: FakeServer
) -> None:
    server.tells_size = False
    server.files["output//a.png"] = png()
    assert await remote.read_small(output_of("a.png"), limit=SMALL) is None
    assert await remote.read_small(replace(output_of("a.png"), size=SMALL + 1), limit=SMALL) is None
    assert len(server.asked) == 1


async def test_a_file_that_grows_while_it_is_read_is_not_small(
    on_disk: OutputFiles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "a.png"
    file.write_bytes(b"12345")

    def grows(path: Path, roots: Sequence[Path]) -> OpenFile:
        opened = open_inside(path, roots)
        file.write_bytes(b"123456")
        return opened

    monkeypatch.setattr(path_guard, "open_inside", grows)
    assert await on_disk.read_small(output_of("a.png"), limit=5) is None
