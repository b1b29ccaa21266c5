"""Workflows of a folder and of engines, listed and read."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.errors import EngineUnreachable, InvalidInput
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.workflow_entries import WorkflowEntry, WorkflowOrigin
from comfy_mcp.library import workflows
from comfy_mcp.library.workflows import WorkflowLibrary
from comfy_mcp.settings import load_settings

GRAPH = {"1": {"class_type": "A", "inputs": {}}}


def entry(name: str, origin: WorkflowOrigin = WorkflowOrigin.TEMPLATE) -> WorkflowEntry:
    return WorkflowEntry(name=name, origin=origin, title=name)


class Engine:
    """`asked` counts requests; `down` makes each of them fail, `hangs` never end."""

    def __init__(self, *names: str, saved: Sequence[str] = ()) -> None:
        self.names, self.saved = names, saved
        self.asked: list[str] = []
        self.down = self.hangs = False

    async def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.hangs:
            await asyncio.Event().wait()
        if self.down:
            raise EngineUnreachable("down", next_step="start it")

    async def templates(self) -> Sequence[WorkflowEntry]:
        await self._ask("templates")
        return [entry(name) for name in self.names]

    async def template(self, name: str) -> Any:
        await self._ask(name)
        return GRAPH if name in self.names else None

    async def saved_workflows(self) -> Sequence[WorkflowEntry]:
        await self._ask("saved")
        return [entry(name, WorkflowOrigin.SAVED) for name in self.saved]

    async def saved_workflow(self, name: str) -> Any:
        await self._ask(name)
        return GRAPH if name in self.saved else None


def library(folder: Path | None = None, *engines: Engine, timeout_s: float = 5.0) -> WorkflowLibrary:
    settings = load_settings(workflows=folder, max_graph_bytes=1024)
    return WorkflowLibrary(
        settings,
        timeout_s=timeout_s,
        engines={EngineId(str(at)): engine for at, engine in enumerate(engines)},
    )


async def test_a_folder_is_read_anew_each_time(tmp_path: Path) -> None:
    known = library(tmp_path)
    assert await known.entries() == ()
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("Fox_poster.json", "sub/cat.json", "note.txt", ".hidden.json", ".git/x.json"):
        (tmp_path / name).write_text(json.dumps(GRAPH))
    found = await known.entries()
    assert [(each.name, each.title, each.words) for each in found] == [
        ("Fox_poster", "Fox poster", ()),
        ("sub/cat", "cat", ("sub",)),
    ]
    assert await known.read(found[1]) == GRAPH
    (tmp_path / "sub" / "cat.json").unlink()
    assert await known.read(found[1]) is None
    assert await known.read(entry("../x", WorkflowOrigin.FOLDER)) is None


async def test_a_large_folder_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "MAX_FOLDER", 2)
    for name in "abc":
        (tmp_path / f"{name}.json").write_text("{}")
    assert [each.name for each in await library(tmp_path).entries()] == ["a", "b"]


async def test_a_disk_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the disk does not answer"):
        await library(tmp_path, timeout_s=0.0).entries()


async def test_engines_are_asked_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("a", "b", saved=["mine"])
    known = library(None, engine, Engine("b", "c"))
    names = [each.name for each in await known.entries()]
    assert names == ["mine", "a", "b", "c"]
    await known.entries()
    assert engine.asked == ["saved", "templates"]
    monkeypatch.setattr(workflows, "LISTS_TTL_S", 0.0)
    await known.entries()
    assert engine.asked == ["saved", "templates"] * 2


async def test_an_engine_that_is_down_or_hangs_is_left_out() -> None:
    down, hangs = Engine("a"), Engine("b")
    down.down = hangs.hangs = True
    known = library(None, down, hangs, Engine("c"), timeout_s=0.01)
    assert [each.name for each in await known.entries()] == ["c"]
    assert await known.read(entry("c")) == GRAPH
    only = library(None, hangs, timeout_s=0.01)
    assert await only.entries() == ()
    with pytest.raises(EngineUnreachable, match=r"in 0\.01 s"):
        await only.read(entry("b"))
    hangs.hangs = False
    assert [each.name for each in await only.entries()] == ["b"], "an empty list is asked for again"


async def test_template_files_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "FILES_KEPT", 2)
    engine = Engine("a", "b", "c", saved=["mine"])
    known = library(None, engine)
    for name in ("a", "b", "a", "c", "a"):
        assert await known.read(entry(name)) == GRAPH
    assert engine.asked == ["a", "b", "c", "a"]
    assert await known.read(entry("none")) is None
    for _ in range(2):
        assert await known.read(entry("mine", WorkflowOrigin.SAVED)) == GRAPH
    assert engine.asked[-2:] == ["mine", "mine"], "a saved workflow may change"
