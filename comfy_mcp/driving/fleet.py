"""What the engines of this process know of each other, so that each takes the jobs that it should.

Nothing here is durable and nothing is a promise: a claim is decided in the store, and an engine that knows
nothing of the others takes what comes, as it does where it is alone.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import is_not

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.domain.needs import Equipment, Needs
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.placing import AHEAD_MS, EngineNow, Others, Speeds, Waiting, choose, takes_first

MAX_KEYS = 4096
"""Kinds of needs that are remembered for an engine, and jobs that were passed over."""


@dataclass(slots=True)
class _Run:
    """A prompt at an engine. Times are monotonic seconds."""

    shape: str | None
    models: frozenset[str]
    began_at: float | None = None
    warm: bool = True


@dataclass(slots=True)
class _Member:
    equipment: Callable[[], Equipment]
    is_there: Callable[[], bool]
    driven_here: Callable[[], bool]
    memory: Callable[[], int | None]
    fit: Bounded[str, bool] = field(default_factory=lambda: Bounded(MAX_KEYS))
    runs: dict[PromptId, _Run] = field(default_factory=dict)
    loaded: frozenset[str] = frozenset()
    idle: EngineNow | None = None
    """It as it last was with nothing to do: most engines of a large fleet are the same at each claim."""


class Fleet:
    """The engines of the settings. One that nobody has entered is alone."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now` in monotonic seconds."""
        self._now = now
        self._members: Mapping[EngineId, _Member] = {}  # another one with each change: threads read it
        self._nodes: list[ObjectInfo | None] = []
        self.lock = threading.Lock()
        self.speeds = Speeds()
        self._passed: Bounded[str, float] = Bounded(MAX_KEYS)
        self._short: Bounded[str, int] = Bounded(MAX_KEYS)
        self.wake_next: Callable[[], None] = lambda: None
        """Jobs wait: another engine is to look for one."""

    def enter(
        self,
        engine: EngineId,
        *,
        equipment: Callable[[], Equipment],
        is_there: Callable[[], bool],
        driven_here: Callable[[], bool],
        memory: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`equipment` is the same object as long as it has not changed. `is_there`: jobs can be sent to it.
        `driven_here`: by this process, which knows what it runs. `memory`: bytes of its GPU, as far as is
        known."""
        self._members = {**self._members, engine: _Member(equipment, is_there, driven_here, memory)}

    def leave(self, engine: EngineId) -> None:
        """The engine is none of the settings' any more."""
        self._members = {each: member for each, member in self._members.items() if each != engine}

    @property
    def several(self) -> bool:
        return len(self._members) > 1

    def equipment(self) -> Sequence[Equipment]:
        return [member.equipment() for member in self._members.values()]

    # --------------------------------------------------------------------------------------------- choosing

    def chooser(self, engine: EngineId, *, takes_files: bool = True) -> "Choice":
        """For one claim of the engine. Not `takes_files`: jobs whose files it would have to get are left."""
        member = self._members.get(engine)
        if member is None:
            return Choice(self, EngineNow(equipment=Equipment(engine=engine)), (), {}, takes_files)
        equipment = self._renew()
        me = self._engine_now(member, equipment[engine])
        there = [
            (equipment[each], other, tuple(other.runs.values()))
            for each, other in self._members.items()
            if each != engine and other.is_there()
        ]
        others = Others(lambda: [self._engine_now(other, has, runs) for has, other, runs in there])
        return Choice(self, me, others, member.fit, takes_files)

    def best(
        self, engines: Collection[EngineId], job: Waiting, has_room: Callable[[EngineId], bool]
    ) -> EngineId | None:
        """Which of the engines gets a job that is the only one to wait: an idle one, and of these the one
        that would have ended it first. None: it waits. `has_room` is asked of those that come first only:
        most engines of a large fleet are not looked at closely for each job."""
        equipment, models = self._renew(), job.models
        fitting = self._fitting(job, equipment)

        def end(engine: EngineId) -> tuple[bool, float]:
            member = fitting[engine]
            own = self.speeds.expect(engine, job.shape, warm=models <= member.loaded)
            free = self._free_in_ms(engine, member.runs.values()) if member.runs else 0.0
            return bool(member.runs), 0.0 if own is None or free is None else free + own

        able = [each for each in engines if each in fitting and self._is_free(each, fitting[each])]
        for engine in sorted(able, key=end):
            if fitting[engine].is_there() and has_room(engine):
                me = self._engine_now(fitting[engine], equipment[engine])
                if choose([job], me, self._others(engine, fitting, equipment), self.speeds, more=False) == 0:
                    return engine
        there = list(islice((each for each, member in fitting.items() if member.is_there()), 2))
        if len(there) == 1 and there[0] in engines and has_room(there[0]):
            return there[0]  # nobody else could have it
        return None

    def _others(
        self, me: EngineId, fitting: Mapping[EngineId, _Member], equipment: Mapping[EngineId, Equipment]
    ) -> Iterable[EngineNow]:
        """Found out where something depends on them."""
        return Others(
            lambda: [
                self._engine_now(member, equipment[each])
                for each, member in fitting.items()
                if each != me and member.is_there()
            ]
        )

    def has_others(self, engine: EngineId) -> bool:
        """It is one of several engines. A service in a lane of its own is none of them."""
        return engine in self._members and self.several

    def is_idle(self, engine: EngineId) -> bool:
        member = self._members.get(engine)
        return member is None or not member.runs

    def is_free(self, engine: EngineId) -> bool:
        """Whether it is worth looking for a job: it is idle or about to be, or there is no other engine."""
        member = self._members.get(engine)
        if member is None or self._is_free(engine, member):
            return True
        return not any(other.is_there() for each, other in self._members.items() if each != engine)

    def _is_free(self, engine: EngineId, member: _Member) -> bool:
        """It is idle or about to be."""
        if not member.runs:
            return True
        free = self._free_in_ms(engine, member.runs.values())
        return free is not None and free <= AHEAD_MS

    def _fitting(self, job: Waiting, equipment: Mapping[EngineId, Equipment]) -> Mapping[EngineId, _Member]:
        if job.key is None or job.needs is None:
            return self._members
        fitting = {}
        with self.lock:
            for engine, member in self._members.items():
                known = member.fit.get(job.key)
                if known is None:
                    known = member.fit[job.key] = self.suits(job.needs, equipment[engine])
                if known:
                    fitting[engine] = member
        return fitting

    def suits(self, needs: Needs, engine: Equipment) -> bool:
        """Whether the engine is to have it. Where no engine has the classes and files, each may: its refusal
        is the job's end. What was asked for is kept to in any case."""
        lack = needs.lack(engine)
        if lack is None or lack.other or lack.labels:
            return lack is None
        return not any(needs.met_by(each) for each in self.equipment())

    def may_go_elsewhere(self, needs: Needs, engine: EngineId, refused_by: Sequence[EngineId] = ()) -> bool:
        """Whether another engine may run it, as far as is known."""
        return any(
            needs.met_by(each)
            for each in self.equipment()
            if each.engine != engine and each.engine not in refused_by
        )

    def free_in_s(self, engine: EngineId) -> float | None:
        """When its prompts are expected to have ended. None: nobody knows."""
        member = self._members.get(engine)
        free = None if member is None else self._free_in_ms(engine, member.runs.values())
        return None if free is None else free / 1000

    def _renew(self) -> Mapping[EngineId, Equipment]:
        """What each has. What was decided with other node lists is decided anew."""
        equipment = {engine: member.equipment() for engine, member in self._members.items()}
        nodes = [each.nodes for each in equipment.values()]
        if len(nodes) != len(self._nodes) or any(map(is_not, nodes, self._nodes)):
            self._nodes = nodes
            for member in self._members.values():
                member.fit = Bounded(MAX_KEYS)
        return equipment

    def _engine_now(
        self, member: _Member, equipment: Equipment, runs: Collection[_Run] | None = None
    ) -> EngineNow:
        """`runs`: those that count, if they are not what it runs now."""
        runs, memory = member.runs.values() if runs is None else runs, member.memory()
        if not member.driven_here():
            return EngineNow(equipment=equipment, prompts=None, free_in_ms=None, memory=memory)
        if runs:
            return EngineNow(
                equipment=equipment,
                prompts=len(runs),
                free_in_ms=self._free_in_ms(equipment.engine, runs),
                loaded=member.loaded,
                memory=memory,
            )
        idle, has = member.idle, (member.loaded, memory)
        if idle is None or idle.equipment is not equipment or (idle.loaded, idle.memory) != has:
            idle = member.idle = EngineNow(equipment=equipment, loaded=member.loaded, memory=memory)
        return idle

    def _free_in_ms(self, engine: EngineId, runs: Iterable[_Run]) -> float | None:
        free = 0.0
        for run in runs:
            left = self._left_ms(engine, run)
            if left is None:
                return None
            free += left
        return free

    def _left_ms(self, engine: EngineId, run: _Run) -> float | None:
        """None: unknown, or it takes far longer than expected."""
        whole = self.speeds.expect(engine, run.shape, warm=run.warm)
        if whole is None or run.began_at is None:
            return whole
        left = whole - (self._now() - run.began_at) * 1000
        return None if left < -whole else max(left, 0.0)

    # ---------------------------------------------------------------------------------------------- learning

    def sent(self, engine: EngineId, prompt_id: PromptId, shape: str | None, needs: Needs | None) -> None:
        """A prompt is, or will be, at the engine."""
        if (member := self._members.get(engine)) is not None:
            member.runs[prompt_id] = _Run(shape, frozenset(() if needs is None else needs.models))

    def began(self, engine: EngineId, prompt_id: PromptId) -> None:
        member = self._members.get(engine)
        run = None if member is None else member.runs.get(prompt_id)
        if member is not None and run is not None:
            run.began_at, run.warm = self._now(), run.models <= member.loaded
            member.loaded = run.models or member.loaded

    def over(self, engine: EngineId, prompt_id: PromptId, *, completed: bool) -> None:
        """The engine has done with it."""
        member = self._members.get(engine)
        run = None if member is None else member.runs.pop(prompt_id, None)
        if run is not None and completed and run.began_at is not None and run.shape is not None:
            took = (self._now() - run.began_at) * 1000
            with self.lock:
                self.speeds.observe(engine, run.shape, took, warm=run.warm)

    def expected_ms(self, engine: EngineId, shape: str | None) -> float | None:
        """How long such workflows take, by the last runs of this process."""
        with self.lock:
            return self.speeds.expect(engine, shape, warm=True)

    def ran_short(self, engine: EngineId, job_id: str) -> None:
        """The job ran out of memory there: it needs an engine that has more, if there is one."""
        member = self._members.get(engine)
        if member is not None and (memory := member.memory()) is not None:
            self._short[job_id] = memory

    def noted(self, job_id: str, job: Waiting) -> Waiting:
        """The job, with what is known of it alone: for how long it has been passed over for the sake of
        another one, and where it ran out of memory."""
        since, short = self._passed.get(job_id), self._short.get(job_id)
        if since is None and short is None:
            return job
        passed_ms = 0.0 if since is None else (self._now() - since) * 1000
        return replace(job, passed_ms=passed_ms, ran_short=short)

    def note_passed(self, jobs: Sequence[str]) -> None:
        for job_id in jobs:
            if job_id not in self._passed:
                self._passed[job_id] = self._now()

    def forget(self, engine: EngineId) -> None:
        """Nobody drives it here any more."""
        if (member := self._members.get(engine)) is not None:
            member.runs.clear()
            member.loaded = frozenset()


class Choice:
    """What one engine takes, by what was known when the claim began.

    The store may call it in its own thread. So all that it reads of the fleet it reads under the lock.
    """

    def __init__(
        self,
        fleet: Fleet,
        me: EngineNow,
        others: Iterable[EngineNow],
        fit: dict[str, bool],
        takes_files: bool,
    ) -> None:
        """`fit`: by the key of their needs, whether the engine is to run such jobs; it learns here."""
        self.alone = not fleet.several
        self.left = False
        """Jobs were left to others, for now."""
        self.seen = False
        """Jobs wait, whether or not the engine takes one."""
        self.unfit = [key for key, fits in fit.items() if not fits]
        self._fleet = fleet
        self._me = me
        self._others = others
        self._fit = fit
        self._takes_files = takes_files

    def peek(self) -> "Peek":
        """The same, which takes nothing."""
        return Peek(self._fleet, self._me, self._others, self._fit)

    def fits(self, key: str | None, needs: Needs | None) -> bool:
        self.seen = True
        if key is None or needs is None:
            return True
        if needs.brings and not self._takes_files:
            self.unfit.append(key)
            return False
        with self._fleet.lock:
            known = self._fit.get(key)
            if known is None:
                known = self._fit[key] = self._fleet.suits(needs, self._me.equipment)
        if not known:
            self.unfit.append(key)
        return known

    def takes_first(self, job_id: str, job: Waiting) -> bool:
        if self.alone:
            return True
        with self._fleet.lock:
            noted = self._fleet.noted(job_id, job)
            return takes_first(noted, self._me, self._others, self._fleet.speeds)

    def choose(self, waiting: Sequence[tuple[str, Waiting]], *, more: bool) -> int | None:
        if self.alone:
            return 0
        with self._fleet.lock:
            jobs = [self._fleet.noted(job_id, job) for job_id, job in waiting]
            at = choose(jobs, self._me, self._others, self._fleet.speeds, more=more)
            self.left = at is None
            if at is not None:
                self._fleet.note_passed([job_id for job_id, _ in waiting[:at]])
        return at


class Peek(Choice):
    """Finds out whether the engine, which sleeps, would take a job that no idle engine takes."""

    def __init__(
        self, fleet: Fleet, me: EngineNow, others: Iterable[EngineNow], fit: dict[str, bool]
    ) -> None:
        super().__init__(fleet, me, others, fit, takes_files=True)
        self._only = self.alone
        self.alone = False
        self.wanted = False

    def takes_first(self, job_id: str, job: Waiting) -> bool:
        return False

    def choose(self, waiting: Sequence[tuple[str, Waiting]], *, more: bool) -> None:
        idle = [other for other in self._others if other.prompts == 0]
        left = [(each, job) for each, job in waiting if not self._is_for(self._fleet.noted(each, job), idle)]
        self.wanted = bool(left) and (self._only or super().choose(left, more=more) is not None)

    def _is_for(self, job: Waiting, idle: Sequence[EngineNow]) -> bool:
        """Whether one of them takes it: not one that lacks the memory which this engine has."""
        speeds = self._fleet.speeds
        here = self._me.has_memory_for(job, speeds)
        return any(
            job.fits(other) and not (here and other.has_memory_for(job, speeds) is False) for other in idle
        )
