"""How the engines are, and what keeps a job from them, as far as this process knows."""

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.errors import EngineFault
from comfy_mcp.domain.ids import LOCAL, EngineId, JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.needs import Needs, Wish
from comfy_mcp.domain.placing import why_nowhere
from comfy_mcp.domain.shown import first_sentences
from comfy_mcp.driving.driver import Driver
from comfy_mcp.driving.lanes import Lanes
from comfy_mcp.driving.roster import Roster
from comfy_mcp.places.protocol import (
    ADD_ONE,
    ASK_S,
    ASLEEP,
    CHECK_IT_RUNS,
    ITS_URL,
    Place,
    Silence,
    Trouble,
    advice_for,
)
from comfy_mcp.store import Store

NO_ENGINE = f"There is no engine. {ADD_ONE}"

RECENT_S = 5.0
"""What is known of an engine for no longer than this is not asked for again."""

KEPT_NEEDS = 1_024
"""Jobs that had to wait and of which is known what they need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """One engine now. `driven_by` is "this process", "another process" or None. `error` is what is wrong, and
    `problem` says it with what to do. `events`: its event stream is open; None where another process has it.
    `age_s`: seconds since its last word; None: it has given none."""

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
    events: bool | None = None
    age_s: float | None = None


class EngineReports:
    def __init__(self, roster: Roster, lanes: Lanes, store: Store) -> None:
        self.lanes = lanes
        self._roster = roster
        self._store = store
        self._needs: Bounded[JobId, Needs] = Bounded(KEPT_NEEDS)

    def submit_warnings(self, lane: str, wish: Wish) -> tuple[str, ...]:
        """What the submitter should know of the engines that it allows, unless one of them is well: after
        `object_info`."""
        if lane != LOCAL:
            trouble = self.lanes.trouble(lane)
            return () if trouble is None else (f"{trouble} The workflow waits until then.",)
        if not wish and any(trouble is None for _, trouble in self._roster.troubles()):
            return ()
        troubles = self._troubles()
        if not troubles:
            return (f"{NO_ENGINE} Until there is one, workflows wait and are not checked.",)
        allowed = {each for each, has in self._roster.equipment().items() if wish.allows(has)}
        found = [(self._roster.pool[each], trouble) for each, trouble in troubles.items() if each in allowed]
        if any(trouble is None for _, trouble in found):
            return ()
        return tuple(self._warning(place, trouble) for place, trouble in found if trouble)

    def _warning(self, place: Place, trouble: Trouble) -> str:
        if trouble.fix == CHECK_IT_RUNS:
            where = f"No ComfyUI answers at {place.url}."
            return f"{where} Until one does, workflows wait and are not checked."
        return f"{trouble.sentence} The workflow waits until then." if trouble.blocks else trouble.sentence

    def blocked(self, engine: EngineId | None) -> str | None:
        """Why no job runs on the engine, or on any; None: one could."""
        troubles = self._troubles()
        if not troubles:
            return NO_ENGINE
        asked = troubles if engine is None else {engine: troubles.get(engine)}
        found = [
            self._said(self._roster.pool[each], trouble)
            for each, trouble in asked.items()
            if trouble and trouble.blocks
        ]
        return first_sentences(found, "engines") if len(found) == len(asked) else None

    @property
    def asleep(self) -> Collection[EngineId]:
        """Those that are to be connected on demand, and have no work."""
        return {engine for engine, place in self._roster.pool.items() if place.asleep}

    @property
    def able(self) -> int:
        """How many engines take jobs now, as far as this process knows."""
        blocked = {engine for engine, each in self._troubles().items() if each is not None and each.blocks}
        return len(self._roster.pool.keys() - blocked - set(self._roster.drained))

    async def learn_causes(self, jobs: Iterable[Job]) -> None:
        """Before `keeps_waiting`, where jobs wait: which engines are drained, how those are that this process
        has not asked yet, and of jobs that another process accepted what they need. Where only one engine is
        there to take them, nobody has to know that."""
        waiting = [job.id for job in jobs if job.waits_unclaimed and job.lane == LOCAL]
        if not waiting:
            return
        await self._roster.know_drained()
        if unasked := [each for each in self._roster.pool.all() if _is_unasked(each)]:
            async with asyncio.TaskGroup() as group:
                for place in unasked:
                    group.create_task(_first_word(place))
        if len(self._roster.pool) < 2 and not self._roster.drained:
            return
        if unknown := [job_id for job_id in waiting if job_id not in self._needs]:
            for job_id, needs in (await self._store.needs_of(unknown)).items():
                self._needs[job_id] = needs

    def keeps_waiting(self, job: Job) -> str | None:
        """Why no engine takes a job that waits, as far as this process knows. None: it waits for its turn."""
        if job.lane != LOCAL:
            return self.lanes.trouble(job.lane)
        needs, blocked = self._needs.get(job.id), self.blocked(job.engine)
        if blocked is not None or needs is None or job.engine is not None:
            return blocked
        because = {
            engine: self._said(self._roster.pool[engine], trouble)
            for engine, trouble in self._troubles().items()
            if trouble is not None and trouble.blocks
        }
        because |= {each: f"Engine {each} is drained." for each in self._roster.drained}
        because |= {each: f"Engine {each} has refused it." for each in job.refused_by}
        return why_nowhere(needs, tuple(self._roster.equipment().values()), because)

    def unusable(self) -> str | None:
        """Why no engine can be used though one answers: wrong credentials, a proxy in the way. None: one can
        be, or all are down, and jobs wait for them."""
        troubles = self._troubles().values()
        refusing = [each.sentence for each in troubles if each and each.blocks and not each.down]
        return first_sentences(refusing, "engines") if refusing and self.blocked(None) else None

    def _said(self, place: Place, trouble: Trouble) -> str:
        """Only where nothing answers at all, ComfyUI may have to be started."""
        if trouble.fix == CHECK_IT_RUNS:
            return f"No ComfyUI answers at {place.url}. {_start_it(place)}"
        return trouble.sentence

    def _troubles(self) -> Mapping[EngineId, Trouble | None]:
        return dict(self._roster.troubles())

    async def silence(self, engine: EngineId) -> Silence | None:
        """Set if the engine does not answer. It is asked if nothing is known that is recent enough."""
        place = self._roster.pool.get(engine)
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
        drivers = {driver.engine: driver for driver in self._roster.drivers}
        drained, holders = await self._roster.read_drained(), await self._store.live_leases()

        async def ask(place: Place) -> None:
            driver = drivers.get(place.engine)
            events = driver.connected if driver is not None and driver.driving else None
            driven_by = self._driven_by(holders.get(place.engine), driver)
            reports[place.engine] = replace(
                await self._report_one(place, driver, driven_by),
                labels=tuple(sorted(place.labels)),
                drained=place.engine in drained,
                events=events,
                age_s=place.known_age_s if place.silence is None else place.silence.seconds,
            )

        async with asyncio.TaskGroup() as group:
            for place in self._roster.pool.all():
                group.create_task(ask(place))
        return [reports[engine] for engine in self._roster.pool if engine in reports]

    def problems(self, reports: Sequence[EngineReport]) -> Sequence[str]:
        """What there is to fix, each with what to do."""
        found = [report.problem for report in reports if report.problem]
        if (problem := self._roster.file.problem) is not None:
            found.append(problem)
        found += [said for lane in self.lanes.names if (said := self.lanes.trouble(lane)) is not None]
        return found if reports else [*found, NO_ENGINE]

    async def _report_one(self, place: Place, driver: Driver | None, driven_by: str | None) -> EngineReport:
        if place.asleep:
            return EngineReport(
                engine=place.engine, url=place.url, up=False, driven_by=driven_by, error=f"It {ASLEEP}."
            )
        try:
            async with asyncio.timeout(ASK_S):
                health = await place.health()
        except TimeoutError:
            silence = place.silence
            waited = ASK_S if silence is None else max(ASK_S, silence.seconds)
            error = f"No answer for {waited:.0f} s; something accepts connections at {place.url}."
            return self._down(place, driven_by, error, advice_for(waited, place.url))
        except EngineFault as fault:
            if fault.next_step == CHECK_IT_RUNS:
                return self._down(place, driven_by, fault.sentence, _start_it(place))
            return self._down(place, driven_by, fault.sentence, str(fault))
        trouble = place.trouble if driver is None else driver.trouble
        problem = None if trouble is None else trouble.sentence
        if driven_by is None:
            problem = (
                f"No process drives engine {place.engine}: start `comfy-bridge serve` or `mcp`, or use `run`."
            )
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

    def _driven_by(self, holder: str | None, driver: Driver | None) -> str | None:
        if driver is not None and driver.driving:
            return "this process"
        if holder is None:
            # Nobody holds the lease now: a process that drives takes it within seconds, and says so.
            return None if driver is None else "this process"
        return "this process" if holder == self._roster.holder else "another process"


def _is_unasked(place: Place) -> bool:
    return place.known_age_s is None and place.trouble is None and not place.asleep


async def _first_word(place: Place) -> None:
    """A process that has just begun asks; where nothing answers, the node list has the reason (`trouble`)."""
    with contextlib.suppress(EngineFault, TimeoutError):
        async with asyncio.timeout(ASK_S):
            try:
                await place.health()
            except EngineFault:
                await place.nodes()


def _start_it(place: Place) -> str:
    return f"Start ComfyUI at {place.url}, or set {ITS_URL} to where it runs."
