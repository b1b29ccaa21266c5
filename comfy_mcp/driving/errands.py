"""What a tenure has to do at its engine, each as a task that reports back.

No errand raises for a fault of the engine: the fault is part of the report. So a hung engine delays an
errand, bounded by the request timeout, and nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from comfy_mcp.domain.catalog import OutputFile
from comfy_mcp.domain.errors import EngineFault
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.gpu import GpuSample
from comfy_mcp.domain.ids import PromptId
from comfy_mcp.places.protocol import Accepted, Picture, PromptView, Rejected, Runner

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A fault means: it is not known whether the engine has the prompt."""

    prompt_id: PromptId
    answer: Accepted | Rejected | EngineFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """`views` is empty when the engine could not be asked; `sizes` has the bytes of finished files."""

    asked: tuple[PromptId, ...]
    views: Mapping[PromptId, PromptView]
    sizes: Mapping[OutputFile, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """The engine was asked to free memory for the next attempt at this prompt's job, or did not answer."""

    prompt_id: PromptId


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The pictures that came with the events are files now. None of them: the engine did not take them."""

    prompt_id: PromptId
    sizes: Mapping[OutputFile, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What the GPUs do; None: nobody said it in time."""

    sample: GpuSample | None


Report = Submitted | Looked | Freed | Kept | Sampled


class Errands:
    """Runs its methods as tasks of `group`, which owns them: whoever runs the tenure sets it.

    `report` hears of each end, on the loop. `confirm` raises if the lease is another's.
    """

    group: asyncio.TaskGroup

    def __init__(
        self, place: Runner, report: Callable[[Report], None], confirm: Callable[[], Awaitable[None]]
    ) -> None:
        self._place = place
        self._report = report
        self._confirm = confirm

    def submit(self, prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None) -> None:
        self._start(self._submit(prompt_id, graph, extra_data), name=f"submit {prompt_id}")

    def look(self, asked: Sequence[PromptId], files: Collection[OutputFile] = ()) -> None:
        """Ask where the prompts are. `files` are known already: their sizes are asked for meanwhile."""
        self._start(self._look(tuple(asked), files), name="look")

    def cancel(self, prompt_id: PromptId) -> None:
        """Ask the engine to cancel, then look what became of it: a cancel can get lost."""
        self._start(self._cancel(prompt_id), name=f"cancel {prompt_id}")

    def free(self, prompt_id: PromptId) -> None:
        """Ask the engine to free memory before what failed as `prompt_id` is tried again."""
        self._start(self._free(prompt_id), name=f"free {prompt_id}")

    def keep(self, prompt_id: PromptId, pictures: Sequence[Picture]) -> None:
        """Write the pictures of a prompt that has ended."""
        self._start(self._keep(prompt_id, pictures), name=f"keep {prompt_id}")

    def sample(self, ask: Callable[[], Awaitable[GpuSample | None]]) -> None:
        """Ask what the GPUs do. `ask` is bounded and raises nothing."""
        self._start(self._sample(ask), name="sample")

    def reconnect(self) -> None:
        self._start(self._place.reconnect(), name="reconnect")

    def _start(self, errand: Coroutine[Any, Any, None], name: str) -> None:
        try:
            self.group.create_task(errand, name=name)
        except RuntimeError:  # the tenure is ending; the next one looks everything up
            errand.close()

    async def _submit(
        self, prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None
    ) -> None:
        answer: Accepted | Rejected | EngineFault
        await self._confirm()  # an engine knows no fence: what reaches it, it runs
        try:
            await self._place.prepare(graph)
            answer = await self._place.submit(prompt_id, graph, extra_data)
        except EngineFault as fault:
            answer = fault
        self._report(Submitted(prompt_id=prompt_id, answer=answer))

    async def _cancel(self, prompt_id: PromptId) -> None:
        try:
            await self._place.cancel(prompt_id)
        except EngineFault as fault:
            log.warning("cancel_unanswered", prompt_id=prompt_id, error=str(fault))
        await self._look((prompt_id,), ())

    async def _free(self, prompt_id: PromptId) -> None:
        try:
            await self._place.free()
        except EngineFault as fault:
            log.warning("free_unanswered", prompt_id=prompt_id, error=str(fault))
        self._report(Freed(prompt_id=prompt_id))

    async def _keep(self, prompt_id: PromptId, pictures: Sequence[Picture]) -> None:
        files: Sequence[OutputFile] = ()
        try:
            files = await self._place.keep(prompt_id, pictures)
        except EngineFault as fault:
            log.warning("pictures_not_kept", prompt_id=prompt_id, count=len(pictures), error=str(fault))
        sizes = [len(picture.data) for picture in pictures]
        self._report(Kept(prompt_id=prompt_id, sizes=dict(zip(files, sizes, strict=False))))

    async def _sample(self, ask: Callable[[], Awaitable[GpuSample | None]]) -> None:
        self._report(Sampled(sample=await ask()))

    async def _look(self, asked: tuple[PromptId, ...], files: Collection[OutputFile]) -> None:
        async with asyncio.TaskGroup() as both:
            looking = both.create_task(self._views(asked))
            sizing = both.create_task(self._sizes(files))
        views, sizes = looking.result(), dict(sizing.result())
        found = {file for view in views.values() if view.result for file in view.result.outputs}
        if missing := found - set(files):
            sizes.update(await self._sizes(missing))
        self._report(Looked(asked=asked, views=views, sizes=sizes))

    async def _views(self, asked: Sequence[PromptId]) -> Mapping[PromptId, PromptView]:
        try:
            return await self._place.lookup(asked)
        except EngineFault as fault:
            log.warning("lookup_unanswered", engine=self._place.engine, error=str(fault))
            return {}

    async def _sizes(self, files: Collection[OutputFile]) -> Mapping[OutputFile, int]:
        named = [file for file in files if file.filename]
        if not named:
            return {}
        try:
            return await self._place.sizes(named)
        except EngineFault:
            return {}  # a size is worth no retry: it stays unknown
