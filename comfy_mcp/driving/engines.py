"""The engines of this process, asked as one."""

import asyncio
from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from comfy_mcp.domain.access import Idempotency
from comfy_mcp.domain.catalog import OutputFile
from comfy_mcp.domain.errors import EngineFault, InvalidInput, NotFound
from comfy_mcp.domain.events import JobQueued, PreviewFrame
from comfy_mcp.domain.ids import LOCAL, EngineId, JobId, PromptId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.needs import Equipment, Needs
from comfy_mcp.domain.node_lists import NodeLists, as_it_was, in_words
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.placing import Waiting
from comfy_mcp.driving.checked import Checked
from comfy_mcp.driving.direct import DirectSubmits
from comfy_mcp.driving.engine_reports import EngineReports
from comfy_mcp.driving.lanes import Lanes
from comfy_mcp.driving.means import Means
from comfy_mcp.driving.roster import EventSource, Roster
from comfy_mcp.driving.tenure import Tenure
from comfy_mcp.places.protocol import ASK_S, NotAnswered, Place, QueueView, UploadedFile
from comfy_mcp.store import ClaimOffer, Submission

OTHERS_S = 1.0
"""A submit waits no longer for the node lists of further engines, once one has given its own."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePrompt:
    """A prompt at an engine. If not `ours`, somebody gave it to ComfyUI itself: it is shown and counted, and
    never touched."""

    prompt_id: PromptId
    running: bool
    ours: bool


class Engines(EngineReports):
    """What can be asked of all engines: to run a job, what they have, and how they are."""

    def __init__(self, roster: Roster, lanes: Lanes, means: Means) -> None:
        super().__init__(roster, lanes, means.store)
        self.pool = roster.pool
        self._means = means
        self._direct: DirectSubmits | None = None
        self._settings = means.settings
        self._lists = NodeLists({})

    async def run(self, log: EventSource) -> None:
        """Drive what can be driven until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._direct = DirectSubmits(group, self._store)
            try:
                group.create_task(self.lanes.run(log), name="lanes")
                await self._roster.run(log)
            finally:
                self._direct = None

    @property
    def several(self) -> bool:
        return self._means.fleet.several

    async def submit(
        self, event: JobQueued, checked: Checked, needs: Needs, idempotency: Idempotency | None
    ) -> tuple[Job, int]:
        """The job, durable, and its place; 0: it waits for other jobs. An engine that has room for it gets it
        at once, if nobody waits.

        Foreign prompts of the engines count in the place, as far as is known. Raises as `Store.add_job`.
        """

        how: dict[str, Any] = {
            "max_queued": self._settings.max_queued,
            "idempotency": idempotency,
            "ahead": self.foreign_ahead(lane=event.lane),
            "fair": self._settings.fair_share,
            "needs": needs,
            "submitted": checked.submitted,
            "large": checked.large,
        }
        graph = checked.graph.raw
        if event.after or event.lane != LOCAL:  # a service's driver reads the log
            self._needs[event.job_id] = needs
            return await self._store.add_job(event, graph, **how)
        reserved = self._reserve(event.job_id, needs)
        if reserved is not None and self._direct is not None:
            submission = Submission(event=event, graph=graph, **how)
            return await self._direct.submit(*reserved, submission, checked)
        self._needs[event.job_id] = needs
        if any(driver.driving for driver in self._roster.drivers):  # else nobody here takes it out again
            self._means.checked.put(event.job_id, checked)
        # Before the write: the claim then waits right behind it at the store. Drivers that ask too
        # early are woken again by the log.
        self._roster.work_arrived()
        return await self._store.add_job(event, graph, **how)

    async def submit_all(
        self, made: Sequence[tuple[JobQueued, Checked, Needs]], idempotency: Idempotency | None
    ) -> list[tuple[Job, int]]:
        """Several jobs, all or none, with their places. Raises as `Store.add_jobs`."""
        submissions = [
            Submission(
                event=event,
                graph=checked.graph.raw,
                max_queued=self._settings.max_queued,
                idempotency=None if number else idempotency,
                ahead=self.foreign_ahead(lane=event.lane),
                fair=self._settings.fair_share,
                needs=needs,
                submitted=checked.submitted,
                large=checked.large,
            )
            for number, (event, checked, needs) in enumerate(made)
        ]
        return await self._store.add_jobs(submissions)

    def _reserve(self, job_id: JobId, needs: Needs) -> tuple[Tenure, ClaimOffer] | None:
        """The engine that is to have it: an idle one, and of these the one that would have ended it first."""
        job = Waiting(priority=0, shape=needs.shape, needs=needs, key=needs.key)
        drivers = {driver.engine: driver for driver in self._roster.drivers}

        def has_room(engine: EngineId) -> bool:
            driver = drivers[engine]
            return driver.has_room and (driver.takes_files or not needs.brings)

        best = self._means.fleet.best(drivers, job, has_room)
        return None if best is None else drivers[best].reserve(job_id)

    def foreign_ahead(self, engine: EngineId | None = None, *, lane: str = LOCAL) -> int:
        """Prompts of others that a job waits for too: on the engine that has it, or the least of any.

        Only what this process's drivers know anyway; 0 where another process drives.
        """
        if lane != LOCAL:
            return 0
        least: int | None = None
        for driver in self._roster.drivers:
            if engine in {None, driver.engine} and (foreign := driver.foreign) is not None:
                least = foreign if least is None else min(least, foreign)
                if least == 0:
                    break
        return least or 0

    def pace_ms(self, job: Job) -> float | None:
        """How long a workflow of its shape takes, over the engines that have run such ones lately."""
        times = [self._means.fleet.expected_ms(engine, job.shape) for engine in self.pool]
        known = [each for each in times if each is not None]
        return sum(known) / len(known) if known else None

    def preview(self, job_id: JobId) -> PreviewFrame | None:
        """The last picture that an engine sent of a job; None where this process does not drive it."""
        return next((found for driver in self._roster.drivers if (found := driver.preview(job_id))), None)

    async def queues(self) -> Mapping[EngineId, Sequence[EnginePrompt]]:
        """What each engine runs and holds, in its order, asked now. One that does not answer is left out."""
        views: dict[EngineId, QueueView] = {}

        async def ask(place: Place) -> None:
            try:
                async with asyncio.timeout(ASK_S):
                    views[place.engine] = await place.queue()
            except (EngineFault, TimeoutError) as fault:
                log.debug("queue_not_read", engine=place.engine, error=str(fault))

        async with asyncio.TaskGroup() as group:
            for place in self.pool.all():
                group.create_task(ask(place))
        ours = await self._store.own_prompts(
            [prompt_id for view in views.values() for prompt_id in (*view.running, *view.pending)]
        )
        return {
            engine: [
                EnginePrompt(prompt_id=prompt_id, running=running, ours=prompt_id in ours)
                for prompts, running in ((views[engine].running, True), (views[engine].pending, False))
                for prompt_id in prompts
            ]
            for engine in self.pool
            if engine in views
        }

    async def drain(self, engine: EngineId, *, at: int | None) -> None:
        """The engine takes nothing new, whoever drives it; None: it does again."""
        await self._store.drain(engine, at=at)
        await self._roster.read_drained()

    def equipment(self) -> Mapping[EngineId, Equipment]:
        """What each engine has, as far as is known."""
        return self._roster.equipment()

    async def node_lists(self, *, max_age_s: float | None = None) -> NodeLists:
        """Those of the engines that answer, in the order of the settings. Of one that hangs, the last that it
        gave: it is the same process still. Of several, also of one that is down; where that is the only one,
        a workflow is better not judged than by what a restart may change. The same object while they are the
        same.

        `max_age_s` asks for fresher ones than the place keeps by itself, before a workflow is refused. Then
        an engine's first list is waited for too: a ComfyUI with many node packs needs some seconds for it.
        """
        places = self.pool.all()
        given: dict[EngineId, ObjectInfo] = {}

        async def ask(place: Place) -> None:
            try:
                given[place.engine] = await place.nodes(max_age_s=max_age_s)
            except EngineFault as fault:
                log.debug("node_list_not_read", engine=place.engine, error=str(fault))
                if isinstance(fault, NotAnswered) and place.known_nodes is not None:
                    given[place.engine] = place.known_nodes

        if len(places) == 1:
            await ask(places[0])
            return self._listed(given)
        now = {place.engine: place.nodes_now for place in places} if max_age_s is None else {}
        if now and None not in now.values():
            return self._listed({engine: info for engine, info in now.items() if info is not None})
        async with asyncio.TaskGroup() as group:
            asked = {group.create_task(ask(place)): place for place in places}
            waiting = {*asked}
            while waiting:
                awaited = max_age_s is not None and any(asked[task].known_nodes is None for task in waiting)
                done, waiting = await asyncio.wait(
                    waiting,
                    timeout=OTHERS_S if given and not awaited else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    break
            for late in waiting:
                late.cancel()
        known = {place.engine: given.get(place.engine, place.known_nodes) for place in places}
        return self._listed({engine: info for engine, info in known.items() if info is not None})

    async def last_lists(self) -> tuple[NodeLists, tuple[str, ...]]:
        """For those who only look: the same, also of an only engine that is down; and a sentence for each
        that does not answer now."""
        lists: Mapping[EngineId, ObjectInfo] = await self.node_lists()
        said = []
        for place in self.pool.all():
            if (info := place.known_nodes) is None or (age_s := place.known_nodes_age_s) is None:
                continue
            if place.engine not in lists or place.silence is not None:
                said.append(f"Engine {place.engine} does not answer: {as_it_was(age_s)}")
            lists = {**lists, place.engine: info}
        return self._listed(lists), tuple(said)

    def old_list(self, engine: EngineId) -> str | None:
        """A sentence that says how old its last node list is; None: the engine answers."""
        place = self.pool.get(engine)
        if place is None or place.silence is None or (age_s := place.known_nodes_age_s) is None:
            return None
        return f"Engine {engine} does not answer: the lists of what it has are {in_words(age_s)} old."

    def _listed(self, lists: Mapping[EngineId, ObjectInfo]) -> NodeLists:
        if not self._lists.same_as(lists):
            self._lists = NodeLists(lists)
        return self._lists

    async def upload(
        self, filename: str, content: AsyncIterable[bytes], *, subfolder: str, overwrite: bool
    ) -> UploadedFile:
        """Into the input folder of the first engine that answers, once. Raises EngineFault."""
        place = await self.pool.first()  # asked first: a stream can't be sent a second time
        return await place.upload(filename, content, subfolder=subfolder, overwrite=overwrite)

    async def holders(self, file: OutputFile) -> Mapping[EngineId, bool | None]:
        """Which engines have the file in their folders; None where one does not say."""
        found: dict[EngineId, bool | None] = {}

        async def ask(place: Place) -> None:
            if place.asleep:
                found[place.engine] = None
                return
            try:
                async with asyncio.timeout(ASK_S), place.view(file, byte_range="bytes=0-0"):
                    found[place.engine] = True
            except InvalidInput:  # it has no first byte
                found[place.engine] = True
            except NotFound:
                found[place.engine] = False
            except (EngineFault, TimeoutError):
                found[place.engine] = None

        async with asyncio.TaskGroup() as group:
            for place in self.pool.all():
                group.create_task(ask(place))
        return found

    async def upload_limit(self) -> int | None:
        """Most bytes that `upload` can send; None where the engine does not say. Raises EngineFault."""
        return await (await self.pool.first()).upload_limit()
