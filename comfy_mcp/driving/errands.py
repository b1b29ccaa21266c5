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
from comfy_mcp.domain.errors import (
    EngineBadAnswer,
    EngineFault,
    EngineUnreachable,
    InvalidInput,
    LimitExceeded,
    NotFound,
    StoreFault,
)
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.gpu import GpuSample
from comfy_mcp.domain.ids import PromptId
from comfy_mcp.places.protocol import Accepted, Picture, PromptView, Rejected, Runner

log = structlog.get_logger(__name__)

MAX_SIZES = 256
"""Most files of one lookup whose sizes are asked for before the job ends: no end waits for thousands."""

PUT_OUT_AFTER_S = (0.0, 5.0, 30.0, 120.0)
"""Pauses before an engine is asked again to stop a prompt whose job has ended without its answer."""


BRING_LIMIT_S = 1_800.0
"""All input files of one prompt are at the engine within this, or it is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broke:
    """The bridge's own code failed on this prompt."""

    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """An input file that this engine can't get, however often it is tried. `elsewhere`: another one may."""

    message: str
    elsewhere: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """The graph to send, now that the engine has the files that it names; or why it has not."""

    prompt_id: PromptId
    answer: Mapping[str, Any] | Unusable | EngineFault | StoreFault | Broke


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A fault means: it is not known whether the engine has the prompt."""

    prompt_id: PromptId
    answer: Accepted | Rejected | EngineFault | Broke


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """`views` is empty when the engine could not be asked; `bad_answer` says so where it did answer.

    `broke`: prompts on which the bridge's own code failed. `sizes` has the bytes of finished files.
    """

    asked: tuple[PromptId, ...]
    views: Mapping[PromptId, PromptView]
    broke: Mapping[PromptId, Exception]
    bad_answer: str | None
    sizes: Mapping[OutputFile, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """The engine was asked to free memory for the next attempt at this prompt's job, or did not answer."""

    prompt_id: PromptId


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The pictures that came with the events are files now, but for those that the engine did not take."""

    prompt_id: PromptId
    sizes: Mapping[OutputFile, int]
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What the GPUs do; None: nobody said it in time."""

    sample: GpuSample | None


Report = Brought | Submitted | Looked | Freed | Kept | Sampled


class Errands:
    """Runs its methods as tasks of `group`, which owns them: whoever runs the tenure sets it.

    `report` is called with each end, on the loop. `confirm` raises if another process has the lease.
    """

    group: asyncio.TaskGroup

    def __init__(
        self, place: Runner, report: Callable[[Report], None], confirm: Callable[[], Awaitable[None]]
    ) -> None:
        self._place = place
        self._report = report
        self._confirm = confirm

    def bring(self, prompt_id: PromptId, graph: Mapping[str, Any]) -> Callable[[], object]:
        """Put the files that the graph names on the engine. Call what it returns to stop it: then no report
        follows."""
        task = self._start(self._bring(prompt_id, graph), name=f"bring {prompt_id}")
        return _nothing if task is None else task.cancel

    def submit(self, prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None) -> None:
        self._start(self._submit(prompt_id, graph, extra_data), name=f"submit {prompt_id}")

    def look(self, asked: Sequence[PromptId], files: Collection[OutputFile] = ()) -> None:
        """Ask where the prompts are. `files` are known already: their sizes are asked for meanwhile."""
        self._start(self._look(tuple(asked), files), name="look")

    def cancel(self, prompt_id: PromptId) -> None:
        """Ask the engine to cancel, then look what became of it: a cancel can get lost."""
        self._start(self._cancel(prompt_id), name=f"cancel {prompt_id}")

    def put_out(self, prompt_id: PromptId) -> None:
        """Keep asking the engine to cancel what has ended here, a few times: nobody waits for the answer."""
        self._start(self._put_out(prompt_id), name=f"put out {prompt_id}")

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
        self._start(self._ask(self._place.reconnect(), "reconnect_failed"), name="reconnect")

    def _start(self, errand: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
        try:
            return self.group.create_task(errand, name=name)
        except RuntimeError:  # the tenure is ending; the next one looks everything up
            errand.close()
            return None

    async def _bring(self, prompt_id: PromptId, graph: Mapping[str, Any]) -> None:
        answer: Mapping[str, Any] | Unusable | EngineFault | StoreFault | Broke
        try:
            async with asyncio.timeout(BRING_LIMIT_S):
                answer = await self._place.prepare(graph)
        except (EngineFault, StoreFault) as fault:
            answer = fault
        except TimeoutError:
            answer = _too_slow()
        except (NotFound, InvalidInput, LimitExceeded) as error:
            answer = Unusable(message=str(error), elsewhere=isinstance(error, LimitExceeded))
        except Exception as error:  # noqa: BLE001 - reported: it is this prompt's alone
            answer = Broke(error=error)
        self._report(Brought(prompt_id=prompt_id, answer=answer))

    async def _submit(
        self, prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None
    ) -> None:
        await self._confirm()  # an engine knows no fence: what reaches it, it runs
        answer: Accepted | Rejected | EngineFault | Broke
        try:
            answer = await self._place.submit(prompt_id, graph, extra_data)
        except EngineFault as fault:
            answer = fault
        except Exception as error:  # noqa: BLE001 - reported: it is this prompt's alone
            answer = Broke(error=error)
        self._report(Submitted(prompt_id=prompt_id, answer=answer))

    async def _cancel(self, prompt_id: PromptId) -> None:
        await self._ask(self._place.cancel(prompt_id), "cancel_unanswered", prompt_id=prompt_id)
        await self._look((prompt_id,), ())

    async def _free(self, prompt_id: PromptId) -> None:
        await self._ask(self._place.free(), "free_unanswered", prompt_id=prompt_id)
        self._report(Freed(prompt_id=prompt_id))

    async def _put_out(self, prompt_id: PromptId) -> None:
        for pause in PUT_OUT_AFTER_S:
            await asyncio.sleep(pause)
            await self._ask(self._place.cancel(prompt_id), "cancel_unanswered", prompt_id=prompt_id)

    async def _ask(self, asking: Awaitable[None], event: str, **about: str) -> None:
        """Ask for what can be asked for again, or be done without: no answer ends anything."""
        try:
            await asking
        except EngineFault as fault:
            log.warning(event, **about, error=str(fault))
        except Exception:
            log.exception(event, **about)

    async def _keep(self, prompt_id: PromptId, pictures: Sequence[Picture]) -> None:
        files: Sequence[OutputFile] = ()
        try:
            files = await self._place.keep(prompt_id, pictures)
        except EngineFault as fault:
            log.warning("pictures_not_kept", prompt_id=prompt_id, count=len(pictures), error=str(fault))
        except Exception:  # the job ends without them
            log.exception("pictures_not_kept", prompt_id=prompt_id, count=len(pictures))
        sizes = [len(picture.data) for picture in pictures]
        lost = len(pictures) - len(files)
        self._report(Kept(prompt_id=prompt_id, sizes=dict(zip(files, sizes, strict=False)), lost=lost))

    async def _sample(self, ask: Callable[[], Awaitable[GpuSample | None]]) -> None:
        self._report(Sampled(sample=await ask()))

    async def _look(self, asked: tuple[PromptId, ...], files: Collection[OutputFile]) -> None:
        broke: dict[PromptId, Exception] = {}
        bad_answer = None
        async with asyncio.TaskGroup() as both:
            looking = both.create_task(self._views(asked, broke))
            sizing = both.create_task(self._sizes(files))
        answer, sizes = looking.result(), dict(sizing.result())
        views = {} if isinstance(answer, EngineFault) else answer
        if isinstance(answer, EngineBadAnswer):
            bad_answer = answer.message
        found = {file for view in views.values() if view.result for file in view.result.outputs}
        if missing := found - set(files):
            sizes.update(await self._sizes(missing))
        self._report(Looked(asked=asked, views=views, broke=broke, bad_answer=bad_answer, sizes=sizes))

    async def _views(
        self, asked: Sequence[PromptId], broke: dict[PromptId, Exception]
    ) -> Mapping[PromptId, PromptView] | EngineFault:
        """What does not understand one prompt must not keep the others from being found: then they are asked
        for one by one, and `broke` gets what failed."""
        try:
            return await self._place.lookup(asked)
        except EngineFault as fault:
            log.warning("lookup_unanswered", engine=self._place.engine, error=str(fault))
            return fault
        except Exception as error:  # noqa: BLE001 - reported: it is that prompt's alone
            if len(asked) == 1:
                broke[asked[0]] = error
                return {}
        views: dict[PromptId, PromptView] = {}
        for prompt_id in asked:
            answer = await self._views((prompt_id,), broke)
            views.update({} if isinstance(answer, EngineFault) else answer)
        return views

    async def _sizes(self, files: Collection[OutputFile]) -> Mapping[OutputFile, int]:
        """Of few files only: the others' are asked for when the end is written (driving/sizes.py)."""
        named = [file for file in files if file.filename][:MAX_SIZES]
        if not named:
            return {}
        try:
            return await self._place.sizes(named)
        except EngineFault:
            return {}  # a size is worth no retry: it stays unknown
        except Exception:
            log.exception("sizes_unknown", engine=self._place.engine)
            return {}


def _too_slow() -> EngineFault:
    return EngineUnreachable(
        f"The input files were not there within {BRING_LIMIT_S / 60:.0f} minutes.", next_step=""
    )


def _nothing() -> None:
    pass
