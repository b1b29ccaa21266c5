"""A service that runs workflows, as a place.

A service gives its own ids, keeps what runs whoever asks, and sends no events: each job is asked for, at
first often, then less. What a job made is fetched before the job counts as ended. A POST without an answer is
repeated under the same key until there is one.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.catalog import OutputFile
from comfy_mcp.domain.errors import BridgeError, EngineFault, StoreFault
from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    FailureKind,
    JobFailure,
    NodeProgressed,
    PromptEnded,
    PromptStarted,
)
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.file_inputs import placed, with_texts
from comfy_mcp.domain.ids import EngineId, NodeId, PromptId
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.places.cloud.kept import KeptOutputs
from comfy_mcp.places.cloud.service import CloudJob, Made, NotNow, Service
from comfy_mcp.places.protocol import (
    Accepted,
    Hear,
    Locate,
    Picture,
    PromptView,
    PromptWhere,
    Rejected,
    Trouble,
)

FIRST_S, SLOWER, MOST_S = 0.25, 1.5, 5.0
"""Pauses between two questions about a job: the first, the factor, the longest. News begin anew."""

FETCH_TRIES = 5
"""How often a file that the service refuses is asked for."""

MAX_PROMPTS = 4096
"""Prompts that are remembered: their end is asked for within seconds."""

PENDING = PromptView(where=PromptWhere.PENDING)
RUNNING = PromptView(where=PromptWhere.RUNNING)
ABSENT = PromptView(where=PromptWhere.ABSENT)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Prompt:
    """`body` is what is to be posted again, as long as the service has not answered to it. `in_doubt`: the
    service may have it. `node`: the one that was reported last."""

    id: PromptId
    body: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None
    reference: str | None = None
    in_doubt: bool = True
    view: PromptView = PENDING
    node: NodeId | None = None
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class CloudPlace:
    """Implements `places.protocol.Runner`. Close it with `close` when `run` has ended."""

    on_demand = False
    known_nodes: ObjectInfo | None = None
    stream_id = ""

    def __init__(
        self,
        service: Service,
        kept: KeptOutputs,
        *,
        locate: Locate,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._kept = kept
        self._locate = locate
        self._clock = clock
        self._prompts: Bounded[PromptId, _Prompt] = Bounded(MAX_PROMPTS)
        self._group: asyncio.TaskGroup | None = None
        self._hear: Hear = lambda _event: None
        self._fault: EngineFault | None = None
        self._not_before = float("-inf")
        self._refused = asyncio.Event()
        self._pause = FIRST_S

    @property
    def engine(self) -> EngineId:
        return self._service.engine

    @property
    def largest_input(self) -> int | None:
        """Bytes of one input file. None: no limit is known."""
        return self._service.largest_input

    @property
    def trouble(self) -> Trouble | None:
        fault = self._fault
        return None if fault is None else Trouble(cause=fault.sentence, fix=fault.next_step)

    async def close(self) -> None:
        await self._service.close()

    async def run(self, hear: Hear) -> None:
        self._hear = hear
        try:
            async with asyncio.TaskGroup() as group:
                await self._until_it_answers()
                self._group = group
                for prompt in list(self._prompts.values()):
                    self._start(prompt)
                while True:
                    self._refused.clear()
                    hear(EngineConnected(sid=None))
                    await self._refused.wait()
                    await self._rest(hear)
        finally:
            self._group = None
            self._prompts.clear()  # whoever drives it next recalls what it has

    def want(self, wanted: bool) -> None:
        """Nothing: it costs nothing while it has no work."""

    def follow(self, stream_ids: Collection[str]) -> None:
        """Nothing: there are no streams."""

    def recall(self, prompt_id: PromptId, reference: str | None) -> None:
        self._prompts[prompt_id] = _Prompt(prompt_id, reference=reference)

    async def prepare(self, graph: Mapping[str, Any]) -> Mapping[str, Any]:
        names = sorted(placed(graph))
        return with_texts(graph, {name: await self._put(name) for name in names}) if names else graph

    async def submit(
        self, prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None = None
    ) -> Accepted | Rejected:
        extra = {} if extra_data is None else extra_data.values
        prompt = self._prompts[prompt_id] = _Prompt(prompt_id, body=(graph, extra), in_doubt=False)
        return await self._post(prompt)

    async def keep(self, prompt_id: PromptId, pictures: Sequence[Picture]) -> Sequence[OutputFile]:
        """Nothing: a service sends no pictures beside its files."""
        return ()

    async def lookup(self, prompt_ids: Sequence[PromptId]) -> Mapping[PromptId, PromptView]:
        return {prompt_id: await self._look(prompt_id) for prompt_id in prompt_ids}

    async def cancel(self, prompt_id: PromptId) -> None:
        prompt = self._prompts.get(prompt_id)
        if prompt is None:
            return
        if prompt.reference is None and prompt.body is not None:
            if not prompt.in_doubt:
                prompt.body = None  # it is nowhere, and will not be sent
                return
            if self._service.repeats:
                await self._post(prompt)  # to learn what it is called
        if prompt.reference is not None:
            await self._service.cancel(prompt.reference)
            prompt.woken.set()

    async def free(self) -> None:
        """Nothing: its memory is not ours."""

    async def reconnect(self) -> None:
        """Nothing: there are no streams."""

    async def sizes(self, files: Sequence[OutputFile]) -> Mapping[OutputFile, int]:
        return await self._kept.sizes(files)

    # --------------------------------------------------------------------------------------------- sending

    async def _put(self, name: str) -> object:
        return await self._service.put(await self._locate(name))

    async def _post(self, prompt: _Prompt) -> Accepted | Rejected:
        assert prompt.body is not None
        if (left := self._not_before - self._clock()) > 0:
            raise NotNow(f"{self.engine} takes no jobs for {left:.0f} s.", next_step="", after_s=left)
        try:
            answer = await self._service.create(prompt.id, *prompt.body)
        except EngineFault as fault:
            self._failed(fault)
            self._refused.set()
            prompt.in_doubt |= not isinstance(fault, NotNow)
            raise
        self._fault, prompt.body, self._pause = None, None, FIRST_S
        if isinstance(answer, Accepted):
            prompt.reference = answer.reference
            self._start(prompt)
        return answer

    async def _look(self, prompt_id: PromptId) -> PromptView:
        """By what the follower of the prompt last knew; one without an answer is posted again."""
        prompt = self._prompts.get(prompt_id)
        if prompt is None:
            return ABSENT
        if prompt.reference is not None:
            return prompt.view
        try:
            if prompt.body is None or (prompt.in_doubt and not self._service.repeats):
                return await self._find(prompt)
            answer = await self._post(prompt)
        except EngineFault:
            return PENDING
        if isinstance(answer, Rejected):
            result = PromptResult(ending=PromptEnding.ERROR, outputs=(), failure=answer.failure)
            return PromptView(where=PromptWhere.FINISHED, result=result)
        return PromptView(where=PromptWhere.PENDING, reference=answer.reference)

    async def _find(self, prompt: _Prompt) -> PromptView:
        """What a process before this one posted, perhaps, and could not write down what it is called."""
        prompt.reference = await self._service.find(prompt.id) if prompt.in_doubt else None
        if prompt.reference is None:
            return ABSENT
        self._start(prompt)
        return PromptView(where=PromptWhere.PENDING, reference=prompt.reference)

    # ------------------------------------------------------------------------------------------- following

    async def _rest(self, hear: Hear) -> None:
        """It takes nothing now: no further job is claimed for it until it answers, later each time."""
        hear(EngineDisconnected(reason="it accepts no jobs now"))
        await asyncio.sleep(max(self._pause, self._not_before - self._clock()))
        self._pause = min(self._pause * SLOWER, MOST_S)
        await self._until_it_answers()

    async def _until_it_answers(self) -> None:
        pause = FIRST_S
        while True:
            try:
                await self._service.check()
            except EngineFault as fault:
                self._failed(fault)
            else:
                self._fault = None
                return
            await asyncio.sleep(pause)
            pause = min(pause * SLOWER, MOST_S)

    def _start(self, prompt: _Prompt) -> None:
        if self._group is not None and prompt.reference is not None:
            self._group.create_task(self._follow(prompt, prompt.reference), name=f"follow {prompt.id}")

    async def _follow(self, prompt: _Prompt, reference: str) -> None:
        """Until it has ended. A defect is that prompt's alone."""
        try:
            prompt.view = await self._until_over(prompt, reference)
        except Exception as error:
            log.exception("not_followed", prompt_id=prompt.id)
            prompt.view = PromptView(where=PromptWhere.UNREADABLE, fault=f"A defect: {type(error).__name__}.")
        self._hear(PromptEnded(prompt_id=prompt.id))

    async def _until_over(self, prompt: _Prompt, reference: str) -> PromptView:
        pause, refused = FIRST_S, 0
        while True:
            wait = pause
            try:
                job = await self._service.job(reference)
                self._fault = None
                if job is None:
                    return ABSENT
                if job.ending is not None:
                    return await self._kept_whole(prompt, job, job.ending, last=refused + 1 >= FETCH_TRIES)
                if self._tell(prompt, job):
                    pause = wait = FIRST_S
            except (EngineFault, StoreFault) as fault:
                self._failed(fault)
                wait = max(pause, fault.after_s if isinstance(fault, NotNow) else 0.0)
            except BridgeError as error:
                refused += 1
                log.warning("output_not_fetched", prompt_id=prompt.id, tries=refused, error=error.message)
            pause = min(pause * SLOWER, MOST_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await prompt.woken.wait()
            prompt.woken.clear()

    def _tell(self, prompt: _Prompt, job: CloudJob) -> bool:
        """Whether there is news. A node's start is not reported: its time would be that of our questions."""
        if not job.running:
            return False
        news = prompt.view is not RUNNING
        if news:
            prompt.view = RUNNING
            self._hear(PromptStarted(prompt_id=prompt.id))
        if job.node is not None and job.node != prompt.node:
            news, prompt.node = True, job.node
            self._hear(NodeProgressed(prompt_id=prompt.id, node=job.node, value=0.0, maximum=1.0))
        return news

    async def _kept_whole(
        self, prompt: _Prompt, job: CloudJob, ending: PromptEnding, *, last: bool
    ) -> PromptView:
        """The end, with the files fetched. `last`: then without those that can't be had, and that is said."""
        files: list[OutputFile] = []
        failure = job.failure
        for number, made in enumerate(job.made, start=1):
            try:
                files.append(await self._kept.keep(prompt.id, number, made))
            except (EngineFault, StoreFault):
                raise
            except BridgeError as error:
                if not last:
                    raise
                ending, failure = PromptEnding.ERROR, failure or _not_fetched(made, error)
        result = PromptResult(ending=ending, outputs=tuple(files), failure=failure, ran_ms=job.ran_ms)
        return PromptView(where=PromptWhere.FINISHED, result=result)

    def _failed(self, fault: EngineFault | StoreFault) -> None:
        if isinstance(fault, EngineFault):
            self._fault = fault
        if isinstance(fault, NotNow):
            self._not_before = max(self._not_before, self._clock() + fault.after_s)
        log.warning("cloud_failed", engine=self.engine, error=str(fault))


def _not_fetched(made: Made, error: BridgeError) -> JobFailure:
    return JobFailure(
        kind=FailureKind.ENGINE_BAD_ANSWER,
        message=f"The workflow ran, and its output {made.name[:100]!r} could not be fetched: {error.message}",
    )
