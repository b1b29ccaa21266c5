"""Models that engines list over HTTP: the union over all engines, trusted for a few seconds."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import structlog

from comfy_mcp.domain.catalog import Model
from comfy_mcp.domain.errors import EngineFault, EngineUnreachable, NotFound
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.library.model_files import type_of_folder

T = TypeVar("T")

log = structlog.get_logger(__name__)

TTL_S = 10.0


class ModelSource(Protocol):
    """An engine's model lists. All raise EngineFault; NotFound for a folder it does not have."""

    async def model_folders(self) -> Sequence[str]:
        """`GET /models`."""
        ...

    async def experiment_models(self, folder: str) -> Sequence[Model]:
        """`GET /experiment/models/{folder}`, with sizes and times; names alone where an engine lacks that."""
        ...


class ModelEngines:
    """An engine that is down is left out while another answers. With none, what they said before is true
    still: `age_s` says since when. Only where they never said it, the fault is raised."""

    def __init__(self, engines: Mapping[EngineId, ModelSource], *, timeout_s: float) -> None:
        self._engines = engines
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._silent = False
        self._folders: tuple[float, tuple[str, ...]] | None = None
        self._models: dict[str, tuple[float, tuple[Model, ...]]] = {}

    @property
    def age_s(self) -> float | None:
        """Seconds since the engines gave what was answered last; None: just now, or never."""
        known = [self._folders[0]] if self._folders else []
        known += [at for at, _ in self._models.values()]
        return _now() - min(known) if self._silent and known else None

    async def folders(self) -> tuple[str, ...]:
        """The folders that hold models, over all engines."""
        async with self._lock:
            if self._folders is None or not _is_fresh(self._folders[0]):
                answers = await self._ask_all(
                    lambda engine: engine.model_folders(), known=self._folders is not None
                )
                if answers is None:
                    assert self._folders is not None
                    return self._folders[1]
                names = {name for answer in answers for name in answer if type_of_folder(name) is not None}
                self._folders = (_now(), tuple(sorted(names)))
            return self._folders[1]

    async def models(self, folder: str) -> tuple[Model, ...]:
        """The models in one folder, sorted; `type` is the contract's. Empty for a folder that no engine has.

        A name stays as the engine says it, because its loader accepts no other (backslashes on Windows).
        """
        async with self._lock:
            known = self._models.get(folder)
            if known is None or not _is_fresh(known[0]):
                answers = await self._ask_all(lambda engine: _list(engine, folder), known=known is not None)
                if answers is None:
                    assert known is not None
                    return known[1]
                kind = type_of_folder(folder) or folder
                union = {each.name: each for answer in reversed(answers) for each in answer}
                found = tuple(
                    Model(name=name, type=kind, size=each.size, modified_at=each.modified_at)
                    for name, each in sorted(union.items())
                )
                known = self._models[folder] = (_now(), found)
            return known[1]

    async def _ask_all(
        self, ask: Callable[[ModelSource], Awaitable[Sequence[T]]], *, known: bool
    ) -> list[Sequence[T]] | None:
        """The answers in the order of the engines. Without any: None if an earlier one is `known`, else the
        first fault is raised."""
        answers: dict[EngineId, Sequence[T]] = {}
        faults: dict[EngineId, EngineFault] = {}

        async def ask_one(engine: EngineId, source: ModelSource) -> None:
            try:
                async with asyncio.timeout(self._timeout_s):
                    answers[engine] = await ask(source)
            except EngineFault as fault:
                faults[engine] = fault
            except TimeoutError:
                faults[engine] = EngineUnreachable(
                    f"Engine {engine} did not list its models in {self._timeout_s:g} s.",
                    next_step="Check that ComfyUI runs; system_status shows which engines answer.",
                )

        async with asyncio.TaskGroup() as group:
            for engine, source in self._engines.items():
                group.create_task(ask_one(engine, source))
        self._silent = not answers
        if not answers and known:
            return None
        for engine, fault in faults.items():
            if not answers:
                raise fault
            log.warning("engine_lists_no_models", engine=engine, code=fault.code)
        return [answers[engine] for engine in self._engines if engine in answers]


async def _list(engine: ModelSource, folder: str) -> Sequence[Model]:
    """Empty for a folder that this engine does not have; another may have it."""
    try:
        return await engine.experiment_models(folder)
    except NotFound:
        return ()


def _is_fresh(at: float) -> bool:
    return _now() - at < TTL_S


def _now() -> float:
    return asyncio.get_running_loop().time()
