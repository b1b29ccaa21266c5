"""A place that a test plays: an engine in memory whose every answer the test decides."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from comfy_mcp.domain.catalog import OutputFile, OutputKind
from comfy_mcp.domain.errors import EngineFault, EngineUnreachable
from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    EngineEvent,
    PromptEnded,
    PromptStarted,
)
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.ids import EngineId, NodeId, PromptId
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.places.protocol import Accepted, Hear, Picture, PromptView, PromptWhere, Rejected, Trouble

PICTURE = OutputFile(kind=OutputKind.IMAGE, filename="a_00001_.png", subfolder="h", node=NodeId("2"))


def unreachable() -> EngineUnreachable:
    return EngineUnreachable("The engine does not answer.", next_step="Start it.")


class ScriptedPlace:
    """Keeps its own record of what it was asked and what it has, as a real engine does."""

    def __init__(self, engine: str = "engine-1", *, size: int = 100) -> None:
        self.engine = EngineId(engine)
        self.on_demand = False
        self.size = size
        self.recalled: dict[PromptId, str | None] = {}
        self.prepared: list[Mapping[str, Any]] = []
        self.bring: Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]] | None = None
        self.posted: list[PromptId] = []
        self.kept: list[Picture] = []
        self.takes_no_pictures = False
        self.beside: dict[PromptId, ExtraData | None] = {}
        self.pending: dict[PromptId, Mapping[str, Any]] = {}
        self.running: dict[PromptId, Mapping[str, Any]] = {}
        self.history: dict[PromptId, PromptResult] = {}
        self.cancels: list[PromptId] = []
        self.lookups = 0
        self.frees = 0
        self.reconnects = 0
        self.down = False
        self.followed: set[str] = set()
        self.stream_id = "scripted"
        self.asked_sizes = 0
        self.silent_about_sizes = False
        self.sizes_held = asyncio.Event()
        self.sizes_held.set()
        self.answer: Callable[[PromptId], Accepted | Rejected | EngineFault] | None = None
        self.on_cancel: Callable[[PromptId], None] = self.obey_cancel
        self.changed = asyncio.Event()
        self._hear: Hear | None = None
        self.trouble: Trouble | None = None

    # ---- the Place protocol

    def want(self, wanted: bool) -> None:
        """It is always there."""

    async def run(self, hear: Hear) -> None:
        self._hear = hear
        if not self.down:
            hear(EngineConnected(sid="scripted"))
        self._tell()
        try:
            await asyncio.Event().wait()
        finally:
            self._hear = None

    def follow(self, stream_ids: Collection[str]) -> None:
        if self.followed != set(stream_ids):
            self.followed = set(stream_ids)
            self._tell()

    @property
    def known_nodes(self) -> ObjectInfo | None:
        return None

    def recall(self, prompt_id: PromptId, reference: str | None) -> None:
        self.recalled[prompt_id] = reference

    async def prepare(self, graph: Mapping[str, Any]) -> Mapping[str, Any]:
        self.prepared.append(graph)
        self._tell()
        return graph if self.bring is None else await self.bring(graph)

    async def submit(
        self, prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None = None
    ) -> Accepted | Rejected:
        self.posted.append(prompt_id)
        self.beside[prompt_id] = extra_data
        answer = self.answer(prompt_id) if self.answer else Accepted(dropped={})
        if isinstance(answer, Accepted):
            self.pending[prompt_id] = graph
        self._tell()
        if isinstance(answer, EngineFault):
            raise answer
        return answer

    async def keep(self, prompt_id: PromptId, pictures: Sequence[Picture]) -> Sequence[OutputFile]:
        self.kept.extend(pictures)
        self._tell()
        if self.takes_no_pictures:
            raise unreachable()
        return [
            OutputFile(kind=OutputKind.IMAGE, filename=f"{number}.png", node=picture.node)
            for number, picture in enumerate(pictures, start=1)
        ]

    async def lookup(self, prompt_ids: Sequence[PromptId]) -> Mapping[PromptId, PromptView]:
        self.lookups += 1
        self._tell()
        if self.down:
            raise unreachable()
        return {prompt_id: self._view(prompt_id) for prompt_id in prompt_ids}

    async def cancel(self, prompt_id: PromptId) -> None:
        self.cancels.append(prompt_id)
        self._tell()
        if self.down:
            raise unreachable()
        self.on_cancel(prompt_id)

    async def free(self) -> None:
        self.frees += 1
        self._tell()
        if self.down:
            raise unreachable()

    async def sizes(self, files: Sequence[OutputFile]) -> Mapping[OutputFile, int]:
        self.asked_sizes += 1
        self._tell()
        await self.sizes_held.wait()
        if self.silent_about_sizes:
            raise unreachable()
        return dict.fromkeys(files, self.size)

    # ---- the script

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that the bridge did made `condition` true."""
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def say(self, *events: EngineEvent) -> None:
        assert self._hear is not None, "no tenure listens"
        for event in events:
            self._hear(event)

    async def start(self, prompt_id: PromptId) -> None:
        self.running[prompt_id] = self.pending.pop(prompt_id)
        await self.say(PromptStarted(prompt_id=prompt_id))

    def end_silently(self, prompt_id: PromptId, result: PromptResult | None = None) -> None:
        """The run ends and no event tells."""
        self.pending.pop(prompt_id, None)
        self.running.pop(prompt_id, None)
        self.history[prompt_id] = result or success()

    async def finish(self, prompt_id: PromptId, result: PromptResult | None = None) -> None:
        self.end_silently(prompt_id, result)
        await self.say(PromptEnded(prompt_id=prompt_id))

    def obey_cancel(self, prompt_id: PromptId) -> None:
        """Delete what waits, interrupt what runs; neither is told by an event here."""
        self.pending.pop(prompt_id, None)
        if self.running.pop(prompt_id, None) is not None:
            self.history[prompt_id] = PromptResult(ending=PromptEnding.INTERRUPTED, outputs=())

    def forget_everything(self) -> None:
        """What a restart does."""
        self.pending.clear()
        self.running.clear()
        self.history.clear()

    async def restart(self) -> None:
        self.forget_everything()
        await self.reconnect()

    async def reconnect(self) -> None:
        self.reconnects += 1
        self._tell()
        await self.say(EngineDisconnected(reason="scripted"), EngineConnected(sid="again"))

    def _view(self, prompt_id: PromptId) -> PromptView:
        if prompt_id in self.history:
            return PromptView(where=PromptWhere.FINISHED, result=self.history[prompt_id])
        if prompt_id in self.running:
            return PromptView(where=PromptWhere.RUNNING)
        if prompt_id in self.pending:
            return PromptView(where=PromptWhere.PENDING)
        return PromptView(where=PromptWhere.ABSENT)

    def _tell(self) -> None:
        self.changed.set()


def success(*outputs: OutputFile) -> PromptResult:
    return PromptResult(ending=PromptEnding.SUCCESS, outputs=outputs or (PICTURE,))
