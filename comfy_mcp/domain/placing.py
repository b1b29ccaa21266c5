"""Which engine gets which job: each engine chooses for itself, among the jobs that wait, by this rule.

An engine takes a job that it can run, in the order of the queue, with four exceptions. It takes no second
one while another engine could: only once its own is about to end. It prefers a job whose models it has
loaded, where the jobs that it passes over have their models loaded on another engine. It leaves the last jobs
to faster engines, where these would have ended all of them before it would have ended one. And it leaves a
job for which its GPU is too small to an engine that has the memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.needs import Equipment, Needs
from comfy_mcp.domain.shown import first_sentences
from comfy_mcp.domain.vram import SLACK

WINDOW = 64
"""Waiting jobs among which an engine chooses."""

AHEAD_MS = 250
"""An engine whose job ends within this gets the next one: it need not idle for a round trip."""

MARGIN = 0.9
"""What others are expected to end in less than this part of an engine's own time is left to them. Below 1,
so that two equal engines never leave a job to each other."""

PATIENCE_MS = 60_000
"""A job is passed over for the sake of loaded models no longer than this."""

NEW_WEIGHT = 0.3
"""Of the newest run in a mean."""

MAX_SHAPES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A job that waits. `needs` None: nothing is known of them, any engine may have it. What has the same
    `key` runs on the same engines; None: nothing is known of that. `refused_by`: engines that do not get it
    again. `ran_short`: the memory of the engine on which it ran out of it."""

    priority: int
    shape: str | None = None
    needs: Needs | None = None
    key: str | None = None
    passed_ms: float = 0
    refused_by: tuple[EngineId, ...] = ()
    ran_short: int | None = None

    @property
    def models(self) -> frozenset[str]:
        return frozenset(() if self.needs is None else self.needs.models)

    def fits(self, engine: "EngineNow") -> bool:
        if engine.engine in self.refused_by:
            return False
        return self.needs is None or self.needs.met_by(engine.equipment)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineNow:
    """An engine that could take jobs. `prompts`: those in flight, None where another process drives it.
    `free_in_ms`: when they will have ended; None: nobody knows. `loaded`: the models of what ran last.
    `memory`: bytes of its GPU, free or not; None: nobody knows."""

    equipment: Equipment
    prompts: int | None = 0
    free_in_ms: float | None = 0.0
    loaded: frozenset[str] = frozenset()
    memory: int | None = None

    @property
    def engine(self) -> EngineId:
        return self.equipment.engine

    @property
    def about_to_end(self) -> bool:
        return self.free_in_ms is not None and self.free_in_ms <= AHEAD_MS

    def has_loaded(self, job: Waiting) -> bool:
        return job.models <= self.loaded

    def has_memory_for(self, job: Waiting, speeds: "Speeds") -> bool | None:
        """None: nothing is known of that. What such workflows held elsewhere is more than they need, so one
        that has ended here counts for more."""
        need = None if job.needs is None else job.needs.memory
        if job.ran_short is not None:
            return None if self.memory is None else self.memory > job.ran_short
        if self.memory is None or need is None:
            return None
        return need <= self.memory * (1 + SLACK) or speeds.knows(self.engine, job.shape)


class Others(Iterable[EngineNow]):
    """Engines that are looked for when somebody first asks for them."""

    def __init__(self, find: Callable[[], Sequence[EngineNow]]) -> None:
        self._find = find
        self._found: Sequence[EngineNow] | None = None

    def __iter__(self) -> Iterator[EngineNow]:
        if self._found is None:
            self._found = self._find()
        return iter(self._found)


@dataclass(slots=True)
class _Pace:
    """Means of the runs of one shape on one engine, in ms."""

    warm: float | None = None
    cold: float | None = None

    @property
    def least(self) -> float:
        return min(each for each in (self.warm, self.cold) if each is not None)


@dataclass(slots=True)
class Speeds:
    """How long workflows of a shape take on each engine, with and without their models loaded."""

    _paces: dict[str, dict[EngineId, _Pace]] = field(default_factory=dict)
    _measured: set[EngineId] = field(default_factory=set)
    _least: dict[str, float] = field(default_factory=dict)

    def observe(self, engine: EngineId, shape: str, ms: float, *, warm: bool) -> None:
        self._measured.add(engine)
        self._least.pop(shape, None)
        paces = self._paces.pop(shape, {})
        while len(self._paces) >= MAX_SHAPES:
            oldest = next(iter(self._paces))
            del self._paces[oldest]
            self._least.pop(oldest, None)
        self._paces[shape] = paces  # the newest is the last
        pace = paces.setdefault(engine, _Pace())
        if warm:
            pace.warm = _mean(pace.warm, ms)
        else:
            pace.cold = _mean(pace.cold, ms)

    def expect(self, engine: EngineId, shape: str | None, *, warm: bool) -> float | None:
        """By its own runs, else by another engine's, as much longer as the engine's runs of other shapes are.
        None: unknown."""
        if engine not in self._measured:
            return None
        paces = self._paces.get(shape or "", {})
        if engine in paces:
            return _time(paces[engine], warm=warm)
        for other, pace in paces.items():
            known, ratio = _time(pace, warm=warm), self._ratio(engine, other)
            if known is not None and ratio is not None:
                return known * ratio
        return None

    def least(self, shape: str | None) -> float:
        """No engine is expected to take less. 0: that is not known without asking for each."""
        paces = self._paces.get(shape or "")
        if paces is None or len(paces) < len(self._measured):  # of the others it is estimated
            return 0.0
        known = self._least.get(shape or "")
        if known is None:
            known = self._least[shape or ""] = min(pace.least for pace in paces.values())
        return known

    def knows(self, engine: EngineId, shape: str | None) -> bool:
        """Whether a workflow of that shape has ended there."""
        return engine in self._paces.get(shape or "", {})

    def _ratio(self, engine: EngineId, other: EngineId) -> float | None:
        """How many times as long the engine takes, over the shapes that both have run."""
        ours = theirs = 0.0
        for paces in self._paces.values():
            if engine in paces and other in paces:
                mine, other_one = _time(paces[engine], warm=True), _time(paces[other], warm=True)
                if mine and other_one:
                    ours += mine / (mine + other_one)
                    theirs += other_one / (mine + other_one)
        return ours / theirs if theirs else None


def choose(
    waiting: Sequence[Waiting], me: EngineNow, others: Iterable[EngineNow], speeds: Speeds, *, more: bool
) -> int | None:
    """Which of the waiting jobs, in the order of the queue, the engine takes; None: none of them now.

    All of them fit it. `others` are the other engines that are there: they are read where it depends on them,
    perhaps more than once. `more` wait than these.
    """
    able = _Able(me, others, speeds)
    allowed = [
        at
        for at, job in enumerate(waiting)
        if able.me(job) and (not me.prompts or _may_take(me, able.of(job)))
    ]
    for at in _preferred(waiting, allowed, me, able):
        if more or not _left_to(able, waiting[at], me, speeds, len(waiting)):
            return at
    return None


def takes_first(first: Waiting, me: EngineNow, others: Iterable[EngineNow], speeds: Speeds) -> bool:
    """Whether `choose` would take the first job whatever waits behind it: it has the models loaded, and what
    it would not leave to others if that job were the only one, it never leaves to them."""
    return me.has_loaded(first) and choose([first], me, others, speeds, more=False) == 0


class _Able:
    """Which engines could run a job: found out once for each key, and only for jobs that it matters for.
    Where one is known to have the memory for it, those that are known not to have are none of them."""

    def __init__(self, me: EngineNow, others: Iterable[EngineNow], speeds: Speeds) -> None:
        self._me = me
        self._others = others
        self._speeds = speeds
        self._known: dict[str | None, Sequence[EngineNow]] = {}

    def me(self, job: Waiting) -> bool:
        return self._me.has_memory_for(job, self._speeds) is not False or not any(
            other.has_memory_for(job, self._speeds) for other in self._fitting(job)
        )

    def of(self, job: Waiting) -> Sequence[EngineNow]:
        """The others."""
        fitting = self._fitting(job)
        has = [other.has_memory_for(job, self._speeds) for other in fitting]
        if False in has and (True in has or self._me.has_memory_for(job, self._speeds)):
            return [other for other, enough in zip(fitting, has, strict=True) if enough is not False]
        return fitting

    def _fitting(self, job: Waiting) -> Sequence[EngineNow]:
        if job.refused_by:
            return [other for other in self._others if job.fits(other)]
        known = None if job.key is None else self._known.get(job.key)
        if known is None:
            known = self._known[job.key] = [other for other in self._others if job.fits(other)]
        return known


def expected_end(job: Waiting, engine: EngineNow, speeds: Speeds) -> float | None:
    """In how many ms the engine would have ended the job, if it got it now."""
    own = speeds.expect(engine.engine, job.shape, warm=engine.has_loaded(job))
    return None if own is None or engine.free_in_ms is None else engine.free_in_ms + own


def _may_take(me: EngineNow, able: Sequence[EngineNow]) -> bool:
    """Whether it may, though it is busy."""
    return not able or (me.about_to_end and all(other.prompts != 0 for other in able))


def _preferred(waiting: Sequence[Waiting], allowed: list[int], me: EngineNow, able: _Able) -> list[int]:
    """With the job first that saves loading models, if there is one."""
    for at in allowed:
        if waiting[at].priority != waiting[allowed[0]].priority:
            break
        if me.has_loaded(waiting[at]):
            return [at, *(each for each in allowed if each != at)]
        if waiting[at].passed_ms < PATIENCE_MS:
            continue
        if not any(other.has_loaded(waiting[at]) for other in able.of(waiting[at])):
            break
    return allowed


def _left_to(able: "_Able", job: Waiting, me: EngineNow, speeds: Speeds, count: int) -> bool:
    """Whether the others would have ended `count` such jobs before this engine has ended one."""
    own = expected_end(job, me, speeds)
    if own is None or own * MARGIN < speeds.least(job.shape):  # then none would have ended a single one
        return False
    for other in able.of(job):
        each = speeds.expect(other.engine, job.shape, warm=other.has_loaded(job))
        if each is not None and other.free_in_ms is not None:
            count -= max(0, int((own * MARGIN - other.free_in_ms) / max(each, 1.0)))
    return count <= 0


def _mean(before: float | None, new: float) -> float:
    return new if before is None else before + NEW_WEIGHT * (new - before)


def _time(pace: _Pace, *, warm: bool) -> float | None:
    first, second = (pace.warm, pace.cold) if warm else (pace.cold, pace.warm)
    return second if first is None else first


def why_nowhere(needs: Needs, engines: Sequence[Equipment], because: Mapping[EngineId, str]) -> str | None:
    """Why no engine takes it now, engine by engine; None: one may. `because`: what else keeps an engine."""
    wanted = needs.wish.engine
    asked = [each for each in engines if wanted in (None, each.engine)]
    if not asked and wanted is not None:
        return f"There is no engine {wanted} any more. Add it again, or cancel the workflow."
    said = []
    for each in asked:
        lack = needs.lack(each)
        if lack is None and each.engine not in because:
            return None
        said.append(because[each.engine] if lack is None else lack.sentence)
    return first_sentences(said, "engines")
