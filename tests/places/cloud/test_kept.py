"""The outputs of services in the data folder."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from comfy_mcp.domain.catalog import OutputFile, OutputKind
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.ids import PromptId
from comfy_mcp.places.cloud.kept import NAME_CHARS, KeptOutputs
from comfy_mcp.places.cloud.service import Made

A = PromptId("a")


def made(name: str, *chunks: bytes, breaks: bool = False) -> Made:
    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        async def bytes_of() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk
            if breaks:
                raise RuntimeError("it broke")

        yield bytes_of()

    return Made(name=name, open=opened)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("x.png", "001_x.png"),
        ("../../etc/passwd", "001_passwd"),
        ("a\\b\\c d.webp", "001_c d.webp"),
        ("line\nbreak\0.png", "001_line_break_.png"),
        ("..", "001_output"),
        ("", "001_output"),
        ("bäume (2).png", "001_bäume (2).png"),
        ("n" * 500 + ".mp4", "001_" + "n" * (NAME_CHARS - 4) + ".mp4"),
    ],
)
async def test_a_name_stays_where_it_belongs(tmp_path: Path, given: str, kept: str) -> None:
    file = await KeptOutputs(tmp_path / "kept").keep(A, 1, made(given, b"1", b"2"))
    assert (file.filename, file.subfolder) == (kept, "a")
    assert (tmp_path / "kept" / "a" / kept).read_bytes() == b"12"


async def test_what_broke_off_leaves_nothing(tmp_path: Path) -> None:
    outputs = KeptOutputs(tmp_path)
    with pytest.raises(RuntimeError):
        await outputs.keep(A, 1, made("x.png", b"1", breaks=True))
    assert list((tmp_path / "a").iterdir()) == []


async def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    outputs = KeptOutputs(tmp_path)
    first = await outputs.keep(A, 1, made("x.png", b"1"))
    assert await outputs.keep(A, 1, made("x.png", breaks=True)) == first


async def test_a_disk_that_takes_nothing_is_a_fault_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept").write_text("no folder")
    with pytest.raises(StoreFault, match="can't be kept"):
        await KeptOutputs(tmp_path / "kept").keep(A, 1, made("x.png", b"1"))

    def full(_from: object, _to: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StoreFault, match="No space left"):
        await KeptOutputs(tmp_path / "other").keep(A, 1, made("x.png", b"1"))


async def test_only_what_is_there_has_a_size(tmp_path: Path) -> None:
    outputs = KeptOutputs(tmp_path)
    file = await outputs.keep(A, 1, made("x.png", b"123"))
    gone = OutputFile(kind=OutputKind.IMAGE, filename="gone.png", subfolder="a")
    assert await outputs.sizes([file, gone]) == {file: 3}


async def test_files_go_with_their_attempt(tmp_path: Path) -> None:
    outputs = KeptOutputs(tmp_path / "kept")
    asked: list[Sequence[PromptId]] = []

    async def known(prompts: Sequence[PromptId]) -> set[PromptId]:
        asked.append(prompts)
        return {A} & set(prompts)

    await outputs.sweep(known)
    await outputs.keep(A, 1, made("x.png", b"1"))
    await outputs.keep(PromptId("b"), 1, made("x.png", b"1"))
    await outputs.sweep(known)
    assert sorted(asked[1]) == ["a", "b"]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["a"]
