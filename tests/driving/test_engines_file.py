"""The file of engines is read again when it changes."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from comfy_mcp.driving.engines_file import EnginesFile
from comfy_mcp.settings import EngineSettings, load_settings
from comfy_mcp.settings.engines_file import add_engine, remove_engine


async def problem_of(file: EnginesFile) -> str:
    while (problem := file.problem) is None:
        await asyncio.sleep(0.01)
    return problem


async def test_each_change_is_given_and_a_broken_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "engines.toml"
    path.write_text('[a]\nurl = "http://a"\n', encoding="utf-8")
    given: asyncio.Queue[list[str]] = asyncio.Queue()

    async def take(engines: Sequence[EngineSettings]) -> None:
        given.put_nowait([engine.id for engine in engines])

    file = EnginesFile(load_settings(engines_file=path), every_s=0.01)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        following = group.create_task(file.follow(take))
        assert await given.get() == ["a"]
        path.write_text("[a", encoding="utf-8")
        assert "The engines of before are used." in await problem_of(file)
        aside = tmp_path / "aside"
        aside.write_text('[b]\nurl = "http://b"\n', encoding="utf-8")
        os.utime(aside, ns=(1, 1))  # older than what was there: any difference counts
        aside.replace(path)
        assert await given.get() == ["b"]
        assert file.problem is None
        path.unlink()
        assert "can't be read" in await problem_of(file)
        following.cancel()
    assert given.empty()


@pytest.mark.parametrize(
    "content",
    [
        b"a = " + b"[\n" * 100_000,
        b"a = " + b"{a=" * 2_000,
        b"a" + b".a" * 100_000 + b" = 1",
        b"[a" + b".a" * 100_000 + b"]",
        b"#\n" * 2**20,
        b"\xff\xfe",
        b"\0",
        b"[a]\nurl = 2024-99-99",
        b"[a]\nurl = " + b"9" * 5_000,
        b"",
    ],
    ids=["lists", "tables", "keys", "headers", "lines", "UTF-16", "zero", "date", "number", "nothing"],
)
async def test_whatever_the_file_holds_the_engines_of_before_are_used(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "engines.toml"
    path.write_text('[a]\nurl = "http://a"\n', encoding="utf-8")
    given: asyncio.Queue[list[str]] = asyncio.Queue()

    async def take(engines: Sequence[EngineSettings]) -> None:
        given.put_nowait([engine.id for engine in engines])

    file = EnginesFile(load_settings(engines_file=path), every_s=0.01)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        following = group.create_task(file.follow(take))
        assert await given.get() == ["a"]
        path.write_bytes(content)
        assert "The engines of before are used." in await problem_of(file)
        following.cancel()
    assert given.empty()


async def test_a_comment_says_that_there_is_no_engine_and_a_file_may_begin_empty(tmp_path: Path) -> None:
    path = tmp_path / "engines.toml"
    path.write_text("", encoding="utf-8")
    given: asyncio.Queue[list[str]] = asyncio.Queue()

    async def take(engines: Sequence[EngineSettings]) -> None:
        given.put_nowait([engine.id for engine in engines])

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        following = group.create_task(
            EnginesFile(load_settings(engines_file=path), every_s=0.01).follow(take)
        )
        assert await given.get() == []
        add_engine(path, "a", {"url": "http://a"}, dict)
        assert await given.get() == ["a"]
        assert remove_engine(path, "a")
        assert await given.get() == []
        assert path.read_text(encoding="utf-8").startswith("#")
        following.cancel()
