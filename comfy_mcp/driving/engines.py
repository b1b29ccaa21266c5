"""The engines of this process: what they can do, how they are, and who drives them."""

import asyncio
import contextlib
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from comfy_mcp.domain.access import Idempotency
from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.catalog import OutputFile
from comfy_mcp.domain.errors import EngineFault, InvalidInput, NotFound, StoreFault
from comfy_mcp.domain.events import JobQueued, StoredEvent
from comfy_mcp.domain.ids import EngineId, JobId, PromptId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.needs import Equipment, Needs
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.placing import Waiting, why_nowhere
from comfy_mcp.driving.checked import Checked
from comfy_mcp.driving.direct import DirectSubmits
from comfy_mcp.driving.driver import Driver
from comfy_mcp.driving.fleet import MAX_KEYS
from comfy_mcp.driving.means import Means
from comfy_mcp.driving.memory_gate import Sampling
from comfy_mcp.driving.tenure import Tenure
from comfy_mcp.places.pool import Pool, equipment_of
from comfy_mcp.places.protocol import (
    ASK_S,
    CHECK_IT_RUNS,
    NotAnswered,
    Place,
    QueueView,
    Silence,
    Trouble,
    UploadedFile,
)
from comfy_mcp.store import ClaimOffer, Submission

KNOWN_S = 1.0
"""Pause between checks of a node list's age; one older than `object_info_ttl_s` is read again."""

OTHERS_S = 1.0
"""A submit waits no longer for the node lists of further engines, once one has given its own."""

log = structlog.get_logger(__name__)

HANGS_S = 30.0
"""An engine that says nothing for this long may have to be restarted. Sooner it may load a model."""

RECENT_S = 5.0
"""What is known of an engine for no longer than this is not asked for again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """One engine now. `driven_by` is "this process", "another process" or None. `error` is what is wrong, and
    `problem` says it with what to do."""

    engine: EngineId
    url: str
    up: bool
    version: str | None = None
    is_comfyui: bool | None = None
    queue_remaining: int | None = None
    driven_by: str | None = None
    error: str | None = None
    problem: str | None = None
    labels: tuple[str, ...] = ()
    drained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNodes:
    """A node list; `age_s` where the engine that gave it does not answer now."""

    nodes: ObjectInfo | None
    engine: EngineId | None = None
    age_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePrompt:
    """A prompt at an engine. If not `ours`, somebody gave it to ComfyUI itself: it is shown and counted, and
    never touched."""

    prompt_id: PromptId
    running: bool
    ours: bool


class EventSource(Protocol):
    """The event log, as it is followed in this process (operations/feed/hub.py)."""

    def listen(self, listener: Callable[[StoredEvent], None]) -> None:
        """Call `listener` for every event, in order."""
        ...


class Engines:
    """The places and their drivers. With `drive` False this process only reads: it never asks for a lease."""

    def __init__(
        self,
        pool: Pool[Place],
        means: Means,
        *,
        holder: str,
        drive: bool,
        sampling: Sampling | None = None,
    ) -> None:
        """`sampling` says what the GPUs do; nobody asks before `run`."""
        self.pool = pool
        self._means = means
        self._direct: DirectSubmits | None = None
        self._store = means.store
        self._settings = means.settings
        self._holder = holder
        self._drivers = [
            Driver(place, means, holder=holder, sampling=sampling) for place in pool.all() if drive
        ]
        self._drained: set[EngineId] = set()
        self._needs: Bounded[JobId, Needs] = Bounded(MAX_KEYS)
        drivers = {driver.engine: driver for driver in self._drivers}
        for place in pool.all():
            self._enter(place, drivers.get(place.engine))

    async def run(self, log: EventSource) -> None:
        """Drive what can be driven until cancelled."""
        for driver in self._drivers:
            log.listen(driver.hear)
        async with asyncio.TaskGroup() as group:
            self._direct = DirectSubmits(group, self._store)
            try:
                async with asyncio.TaskGroup() as drivers:
                    for driver in self._drivers:
                        drivers.create_task(driver.run(), name="driver")
                    if self._means.fleet.several:
                        drivers.create_task(self._keep_drained(), name="drained engines")
                        for place in self.pool.all():
                            drivers.create_task(self._keep_known(place), name="node list")
            finally:
                self._direct = None

    async def submit(
        self, event: JobQueued, checked: Checked, needs: Needs, idempotency: Idempotency | None
    ) -> tuple[Job, int]:
        """The job, durable, and its place. An engine that has room for it gets it at once, if nobody waits.

        Foreign prompts of the engines count in the place, as far as is known. Raises as `Store.add_job`.
        """

        how: dict[str, Any] = {
            "max_queued": self._settings.max_queued,
            "idempotency": idempotency,
            "ahead": self.foreign_ahead(),
            "fair": self._settings.fair_share,
            "needs": needs,
            "submitted": checked.submitted,
            "large": checked.large,
        }
        self._needs[event.job_id] = needs
        graph = checked.graph.raw
        reserved = self._reserve(event.job_id, needs)
        if reserved is not None and self._direct is not None:
            submission = Submission(event=event, graph=graph, **how)
            return await self._direct.submit(*reserved, submission, checked)
        if self._drivers:
            self._means.checked.put(event.job_id, checked)
        # Before the write: the claim then waits right behind it at the store. Drivers that ask too
        # early are woken again by the log.
        for driver in self._drivers:
            driver.work_arrived()
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
                ahead=self.foreign_ahead(),
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
        job = Waiting(priority=0, shape=needs.shape, needs=needs)
        able: list[tuple[bool, float, Driver]] = []
        for driver in self._drivers:
            if driver.has_room and (driver.takes_files or not needs.brings):
                choice = self._means.fleet.chooser(driver.engine)
                if choice.fits(needs.key, needs) and choice.choose([(job_id, job)], more=False) is not None:
                    able.append((choice.busy, choice.end_of(job) or 0.0, driver))
        if not able:
            return None
        return min(able, key=lambda each: each[:2])[2].reserve(job_id)

    def _enter(self, place: Place, driver: Driver | None) -> None:
        def is_there() -> bool:
            if place.engine in self._drained:
                return False
            if driver is not None and driver.driving:
                return driver.connected
            return place.trouble is None

        self._means.fleet.enter(
            place.engine,
            equipment=lambda: equipment_of(place),
            is_there=is_there,
            driven_here=lambda: driver is not None and driver.driving,
        )

    async def _keep_drained(self) -> None:
        """Another process may have drained an engine: then the others do not wait for it."""
        while True:
            with contextlib.suppress(StoreFault):
                await self._read_drained()
            await asyncio.sleep(KNOWN_S)

    async def _read_drained(self) -> None:
        drained = await self._store.drained()
        if drained != self._drained:
            self._drained = drained
            for driver in self._drivers:
                driver.work_arrived()

    async def _keep_known(self, place: Place) -> None:
        """Its node list, so that each engine knows what the others have. It is asked for when it is old."""
        while True:
            with contextlib.suppress(EngineFault):
                await place.nodes()
            await asyncio.sleep(KNOWN_S)

    def foreign_ahead(self, engine: EngineId | None = None) -> int:
        """Prompts of others that a job waits for too: on the engine that has it, or the least of any.

        Only what this process's drivers know anyway; 0 where another process drives.
        """
        known = [
            driver.foreign
            for driver in self._drivers
            if driver.foreign is not None and engine in {None, driver.engine}
        ]
        return min(known, default=0)

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

    async def object_info(self, *, max_age_s: float | None = None) -> ObjectInfo | None:
        """The node list of the first engine that has one, as `node_lists` says; None when none has.

        `max_age_s` asks for a fresher one than the setting `object_info_ttl_s`.
        """
        return next(iter((await self.node_lists(max_age_s=max_age_s)).values()), None)

    async def last_nodes(self) -> KnownNodes:
        """The same; also of an engine that is down the last one, for those who only look."""
        info = await self.object_info()
        known = [each for each in self.pool.all() if each.known_nodes is not None]
        shown = next((each for each in known if info is None or info is each.known_nodes), None)
        if shown is None:
            return KnownNodes(nodes=info)
        quiet = shown.silence is not None or shown.trouble is not None or info is None
        age_s = shown.known_nodes_age_s if quiet else None
        return KnownNodes(nodes=shown.known_nodes, engine=shown.engine, age_s=age_s)

    async def drain(self, engine: EngineId, *, at: int | None) -> None:
        """The engine takes nothing new, whoever drives it; None: it does again."""
        await self._store.drain(engine, at=at)
        await self._read_drained()

    def equipment(self) -> Mapping[EngineId, Equipment]:
        """What each engine has, as far as is known."""
        return {place.engine: equipment_of(place) for place in self.pool.all()}

    async def node_lists(self, *, max_age_s: float | None = None) -> Mapping[EngineId, ObjectInfo]:
        """Those of the engines that answer, in the order of the settings. Of one that hangs, the last that it
        gave: it is the same process. Of several, also of one that is down; where that is the only one, a
        workflow is better not judged than by what a restart may change."""
        places = self.pool.all()
        given: dict[EngineId, ObjectInfo] = {}
        gone: set[EngineId] = set()

        async def ask(place: Place) -> None:
            try:
                given[place.engine] = await place.nodes(max_age_s=max_age_s)
            except NotAnswered as fault:
                log.debug("node_list_not_read", engine=place.engine, error=str(fault))
            except EngineFault as fault:
                log.debug("node_list_not_read", engine=place.engine, error=str(fault))
                gone.add(place.engine)

        async with asyncio.TaskGroup() as group:
            waiting = {group.create_task(ask(place)) for place in places}
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting, timeout=OTHERS_S if given else None, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
            for late in waiting:
                late.cancel()
        known = {
            place.engine: given.get(place.engine, place.known_nodes)
            for place in places
            if len(places) > 1 or place.engine not in gone
        }
        return {engine: info for engine, info in known.items() if info is not None}

    async def upload(
        self, filename: str, content: AsyncIterable[bytes], *, subfolder: str, overwrite: bool
    ) -> UploadedFile:
        """Into the input folder of the first engine that answers, once. Raises EngineFault."""
        place = await self.pool.first()  # asked first: a stream can't be sent a second time
        return await place.upload(filename, content, subfolder=subfolder, overwrite=overwrite)

    async def has_file(self, file: OutputFile) -> bool | None:
        """Whether an engine has the file in its folder; None where one that might have it does not say."""

        async def ask(place: Place) -> bool | None:
            try:
                async with asyncio.timeout(ASK_S), place.view(file, byte_range="bytes=0-0"):
                    return True
            except InvalidInput:  # it has no first byte
                return True
            except NotFound:
                return False
            except (EngineFault, TimeoutError):
                return None

        answers = await asyncio.gather(*map(ask, self.pool.all()))
        return True if True in answers else None if None in answers else False

    async def upload_limit(self) -> int | None:
        """Most bytes that `upload` can send; None where the engine does not say. Raises EngineFault."""
        return await (await self.pool.first()).upload_limit()

    def submit_warnings(self) -> tuple[str, ...]:
        """What the submitter should know of the engines, unless one of them is well: after `object_info`."""
        troubles = self._troubles()
        if not all(troubles.values()):
            return ()
        return tuple(self._warning(self.pool[engine], each) for engine, each in troubles.items() if each)

    def _warning(self, place: Place, trouble: Trouble) -> str:
        if trouble.fix == CHECK_IT_RUNS:
            where = f"No ComfyUI answers at {place.url}."
            return f"{where} The workflow was not checked and waits until one answers."
        return f"{trouble.sentence} The workflow waits until then." if trouble.blocks else trouble.sentence

    def blocked(self, engine: EngineId | None) -> str | None:
        """Why no job runs on the engine, or on any; None: one could."""
        troubles = self._troubles()
        asked = troubles if engine is None else {engine: troubles.get(engine)}
        found = [
            self._said(self.pool[each], trouble)
            for each, trouble in asked.items()
            if trouble and trouble.blocks
        ]
        return " ".join(found) if len(found) == len(asked) else None

    def keeps_waiting(self, job: Job) -> str | None:
        """Why no engine takes a job that waits, as far as this process knows. None: it waits for its turn."""
        needs, blocked = self._needs.get(job.id), self.blocked(job.engine)
        if blocked is not None or needs is None or job.engine is not None:
            return blocked
        because = {
            engine: self._said(self.pool[engine], trouble)
            for engine, trouble in self._troubles().items()
            if trouble is not None and trouble.blocks
        }
        because |= {each: f"Engine {each} is drained." for each in self._drained}
        because |= {each: f"Engine {each} has refused it." for each in job.refused_by}
        return why_nowhere(needs, tuple(self.equipment().values()), because)

    def unusable(self) -> str | None:
        """Why no engine can be used though one answers: wrong credentials, a proxy in the way. None: one can
        be, or all are down, and jobs wait for them."""
        troubles = self._troubles().values()
        refusing = [each.sentence for each in troubles if each and each.blocks and not each.down]
        return " ".join(refusing) if refusing and self.blocked(None) else None

    def _said(self, place: Place, trouble: Trouble) -> str:
        """Only where nothing answers at all, ComfyUI may have to be started."""
        if trouble.fix == CHECK_IT_RUNS:
            return f"No ComfyUI answers at {place.url}. {_start_it(place)}"
        return trouble.sentence

    def _troubles(self) -> Mapping[EngineId, Trouble | None]:
        driven = {driver.engine: driver.trouble for driver in self._drivers}
        return {place.engine: driven.get(place.engine, place.trouble) for place in self.pool.all()}

    async def silence(self, engine: EngineId) -> Silence | None:
        """Set if the engine does not answer. It is asked if nothing is known that is recent enough."""
        place = self.pool.get(engine)
        if place is None:
            return None
        age = place.known_age_s
        if place.silence is None and (age is None or age > RECENT_S):
            with contextlib.suppress(EngineFault, TimeoutError):
                async with asyncio.timeout(ASK_S):
                    await place.health()
        return place.silence

    async def report(self) -> Sequence[EngineReport]:
        """How each engine is, asked now. Never raises for an engine that is down."""
        reports: dict[EngineId, EngineReport] = {}
        drained = await self._store.drained()

        async def ask(place: Place) -> None:
            reports[place.engine] = replace(
                await self._report_one(place),
                labels=tuple(sorted(place.labels)),
                drained=place.engine in drained,
            )

        async with asyncio.TaskGroup() as group:
            for place in self.pool.all():
                group.create_task(ask(place))
        return [reports[engine] for engine in self.pool]

    async def _report_one(self, place: Place) -> EngineReport:
        driven_by = await self._driven_by(place.engine)
        try:
            async with asyncio.timeout(ASK_S):
                health = await place.health()
        except TimeoutError:
            silence = place.silence
            waited = ASK_S if silence is None else max(ASK_S, silence.seconds)
            error = f"No answer for {waited:.0f} s; something accepts connections at {place.url}."
            advice = "It may load a model: ask again in half a minute."
            if waited >= HANGS_S:
                advice = f"If ComfyUI hangs at {place.url}, restart it."
            return self._down(place, driven_by, error, advice)
        except EngineFault as fault:
            if fault.next_step == CHECK_IT_RUNS:
                return self._down(place, driven_by, fault.sentence, _start_it(place))
            return self._down(place, driven_by, fault.sentence, str(fault))
        trouble = self._troubles()[place.engine]
        problem = None if trouble is None else trouble.sentence
        if driven_by is None:
            problem = "No process drives the engine: start `comfy-bridge mcp` or use `comfy-bridge run`."
        return EngineReport(
            engine=place.engine,
            url=place.url,
            up=True,
            version=health.version,
            is_comfyui=health.is_comfyui,
            queue_remaining=health.prompts,
            driven_by=driven_by,
            error=None if trouble is None else trouble.cause,
            problem=problem,
        )

    def _down(self, place: Place, driven_by: str | None, error: str, problem: str) -> EngineReport:
        return EngineReport(
            engine=place.engine, url=place.url, up=False, driven_by=driven_by, error=error, problem=problem
        )

    async def _driven_by(self, engine: EngineId) -> str | None:
        lease = await self._store.lease_of(engine)
        if lease is None or not lease.live or not lease.holder:
            # Nobody holds the lease now: a process that drives takes it within seconds, and says so.
            return "this process" if any(each.engine == engine for each in self._drivers) else None
        return "this process" if lease.holder == self._holder else "another process"


def _start_it(place: Place) -> str:
    return f"Start ComfyUI at {place.url}, or set COMFYUI_URL to where it runs."
