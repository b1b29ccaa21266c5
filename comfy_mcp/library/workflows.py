"""Workflows by name: those that the engines serve, and those of the bridge's own folder."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog

from comfy_mcp.daemon_threads import Apart
from comfy_mcp.domain.errors import EngineFault, EngineUnreachable, ErrorCode, InvalidInput
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.workflow_entries import WorkflowEntry, WorkflowOrigin
from comfy_mcp.library.path_guard import NotRegular, OutsideRoots, open_inside
from comfy_mcp.library.workflow_files import read_workflow_file
from comfy_mcp.settings import JobGroup

T = TypeVar("T")

log = structlog.get_logger(__name__)

LISTS_TTL_S = 60.0
"""How long an engine's lists are trusted: a workflow that somebody saves is found within this time."""
FILES_KEPT = 100
"""Template files that are kept: a search reads some tens."""
MAX_FOLDER = 2_000
"""Most files of the bridge's own folder that are listed."""


class WorkflowSource(Protocol):
    """An engine's workflows. All raise EngineFault."""

    async def templates(self) -> Sequence[WorkflowEntry]: ...
    async def template(self, name: str) -> Any: ...
    async def saved_workflows(self) -> Sequence[WorkflowEntry]: ...
    async def saved_workflow(self, name: str) -> Any: ...


class WorkflowLibrary:
    """Of an engine that does not answer the last lists are shown; one that never gave any is left out."""

    def __init__(
        self, settings: JobGroup, *, timeout_s: float, engines: Mapping[EngineId, WorkflowSource]
    ) -> None:
        self._folder = settings.workflows
        self._max_bytes = settings.max_graph_bytes
        self._timeout_s = timeout_s
        self._disk = Apart("workflows", limit_s=timeout_s)
        self._engines = engines
        self._lock = asyncio.Lock()
        self._lists: tuple[float, tuple[WorkflowEntry, ...]] | None = None
        self._templates: dict[str, Any] = {}

    async def entries(self) -> tuple[WorkflowEntry, ...]:
        """All of them. The folder is read each time, the engines' lists once a minute."""
        return (*await self._of_folder(), *await self._of_engines())

    async def read(self, entry: WorkflowEntry) -> Any:
        """Its file, parsed; None: it has gone. Raises InvalidInput for what is no workflow."""
        match entry.origin:
            case WorkflowOrigin.FOLDER:
                return await self._on_disk(lambda: self._read(entry.name))
            case WorkflowOrigin.SAVED:
                return await self._first(lambda engine: engine.saved_workflow(entry.name))
            case _:
                return await self._template(entry.name)

    async def _template(self, name: str) -> Any:
        """A template does not change while the engine runs, and a search looks into many."""
        if name not in self._templates:
            found = await self._first(lambda engine: engine.template(name))
            if found is None:
                return None
            while len(self._templates) >= FILES_KEPT:
                del self._templates[next(iter(self._templates))]
            self._templates[name] = found
        return self._templates[name]

    async def _of_engines(self) -> tuple[WorkflowEntry, ...]:
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._lists is None or now - self._lists[0] >= LISTS_TTL_S:
                async with asyncio.TaskGroup() as group:
                    asking = [
                        group.create_task(self._list(engine, source, saved=saved))
                        for saved in (True, False)
                        for engine, source in self._engines.items()
                    ]
                answers = [task.result() for task in asking]
                listed = [each for answer in answers if answer is not None for each in answer]
                found = {(each.origin, each.name): each for each in reversed(listed)}
                if None in answers and self._lists is not None:
                    return self._lists[1]  # what an engine that does not answer had is better than nothing
                if not found:
                    return ()  # perhaps no engine answered: asked again next time
                self._lists = now, tuple(reversed(found.values()))
                self._templates.clear()
            return self._lists[1]

    async def _list(
        self, engine: EngineId, source: WorkflowSource, *, saved: bool
    ) -> Sequence[WorkflowEntry] | None:
        """None: it does not answer."""
        try:
            return await self._with_time(source.saved_workflows() if saved else source.templates())
        except (EngineFault, TimeoutError) as fault:
            log.debug("workflows_not_listed", engine=engine, error=str(fault))
            return None

    async def _first(self, ask: Callable[[WorkflowSource], Awaitable[Any]]) -> Any:
        """The first answer that is not None. Raises the last fault where no engine answered."""
        failed: EngineFault | None = None
        for engine, source in self._engines.items():
            try:
                found = await self._with_time(ask(source))
            except EngineFault as fault:
                failed = fault
            except TimeoutError:
                failed = EngineUnreachable(
                    f"Engine {engine} did not give the workflow in {self._timeout_s:g} s.",
                    next_step="Check that ComfyUI runs; system_status shows which engines answer.",
                )
            else:
                if found is not None:
                    return found
        if failed is not None:
            raise failed
        return None

    async def _with_time(self, asked: Awaitable[T]) -> T:
        async with asyncio.timeout(self._timeout_s):
            return await asked

    async def _of_folder(self) -> tuple[WorkflowEntry, ...]:
        if self._folder is None:
            return ()
        return await self._on_disk(self._listed)

    async def _on_disk(self, read: Callable[[], T]) -> T:
        try:
            return await self._disk.do(read)
        except TimeoutError:
            raise InvalidInput(
                f"The folder of workflows {self._folder} can't be read: the disk does not answer.",
                next_step="Check the folder that COMFY_BRIDGE_WORKFLOWS names.",
                code=ErrorCode.PATH_UNREADABLE,
            ) from None

    def _listed(self) -> tuple[WorkflowEntry, ...]:
        assert self._folder is not None
        found = []
        for parent, folders, files in os.walk(self._folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for file in sorted(files):
                path = Path(parent) / file
                name = path.relative_to(self._folder).as_posix()
                if path.suffix.lower() in _SUFFIXES and not file.startswith("."):
                    found.append(_of_file(name.removesuffix(".json"), path.stem))
                if len(found) >= MAX_FOLDER:
                    return tuple(found)
        return tuple(found)

    def _read(self, name: str) -> Any:
        assert self._folder is not None
        for path in (self._folder / f"{name}.json", self._folder / name):
            try:
                file = open_inside(path, [self._folder])
            except (OutsideRoots, NotRegular, OSError):
                continue
            with BufferedReader(file.stream) as stream:
                return read_workflow_file(stream, self._max_bytes, file.found.st_size)
        return None


def _of_file(name: str, stem: str) -> WorkflowEntry:
    return WorkflowEntry(
        name=name,
        origin=WorkflowOrigin.FOLDER,
        title=stem.replace("_", " ").replace("-", " "),
        about="In the folder of workflows",
        words=tuple(name.split("/")[:-1]),
    )


_SUFFIXES = frozenset({".json", ".png", ".webp", ".mp4", ".webm", ".flac"})
