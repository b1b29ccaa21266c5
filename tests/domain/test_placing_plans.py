"""Whole queues placed on simulated engines, against the best plan."""

import heapq
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.needs import Equipment, Needs
from comfy_mcp.domain.placing import AHEAD_MS, WINDOW, EngineNow, Speeds, Waiting, choose
from tests.domain.test_placing import needs


@dataclass
class Simulated:
    """An engine that runs one job after the other, `pace` times as fast as the slowest."""

    name: EngineId
    pace: float
    at_it: list["Task"] = field(default_factory=list)
    loaded: frozenset[str] = frozenset()
    began: float = 0.0
    warm: bool = True


@dataclass
class Task:
    needs: Needs
    ms: float
    passed_at: float | None = None


class Simulation:
    """Engines of unlike speed. The rule knows their speeds only from runs that have ended."""

    def __init__(self, tasks: Sequence[Task], paces: Sequence[float], load_ms: float) -> None:
        self.now = 0.0
        self.queue = list(tasks)
        self.load_ms = load_ms
        self.speeds = Speeds()
        self.engines = [Simulated(EngineId(f"e{number}"), pace) for number, pace in enumerate(paces)]
        self.due: list[tuple[float, int, Simulated, bool]] = []
        self.count = itertools.count()

    def run(self) -> float:
        self.claim()
        while self.due:
            self.now, _, each, ends = heapq.heappop(self.due)
            if ends:
                task = each.at_it.pop(0)
                self.speeds.observe(each.name, task.needs.shape, self.now - each.began, warm=each.warm)
                self.start(each)
            self.claim()
        assert not self.queue
        return self.now

    def claim(self) -> None:
        while any([self.claim_one(each) for each in self.engines]):  # noqa: C419 - each gets its turn
            pass

    def claim_one(self, each: Simulated) -> bool:
        window = self.queue[:WINDOW]
        if len(each.at_it) == 2 or not window:
            return False
        waiting = [
            Waiting(
                priority=1,
                shape=task.needs.shape,
                needs=task.needs,
                passed_ms=0 if task.passed_at is None else self.now - task.passed_at,
            )
            for task in window
        ]
        others = [self.now_of(other) for other in self.engines if other is not each]
        at = choose(waiting, self.now_of(each), others, self.speeds, more=len(self.queue) > WINDOW)
        if at is None:
            return False
        for task in window[:at]:
            task.passed_at = self.now if task.passed_at is None else task.passed_at
        each.at_it.append(self.queue.pop(at))
        if len(each.at_it) == 1:
            self.start(each)
        return True

    def start(self, each: Simulated) -> None:
        if each.at_it:
            task = each.at_it[0]
            models = frozenset(task.needs.models)
            each.began, each.warm = self.now, models <= each.loaded
            each.loaded = models or each.loaded
            ms = (task.ms + (0 if each.warm else self.load_ms)) / each.pace
            ahead = max(ms - AHEAD_MS, 0)  # then it may take the next one
            heapq.heappush(self.due, (self.now + ahead, next(self.count), each, False))
            heapq.heappush(self.due, (self.now + ms, next(self.count), each, True))

    def now_of(self, each: Simulated) -> EngineNow:
        free: float | None = 0.0
        for place, task in enumerate(each.at_it):
            whole = self.speeds.expect(each.name, task.needs.shape, warm=each.warm if place == 0 else True)
            left = None if whole is None else max(0.0, whole - (self.now - each.began if place == 0 else 0))
            free = None if free is None or left is None else free + left
        return EngineNow(
            equipment=Equipment(engine=each.name),
            prompts=len(each.at_it),
            free_in_ms=free,
            loaded=each.loaded,
        )


def plan(models: Sequence[str], *, jobs: int, seed: int) -> list[Task]:
    luck = random.Random(seed)
    return [
        Task(needs(*([model] if model else [])), 1000 * luck.uniform(0.9, 1.1))
        for model in luck.choices(models, k=jobs)
    ]


@pytest.mark.parametrize("models", [[""], ["x", "y"], ["x", "y", "z"]])
@pytest.mark.parametrize("seed", range(4))
def test_unequal_engines_end_500_jobs_close_to_the_best_plan(models: list[str], seed: int) -> None:
    """The bound is below the best plan: no engine idles, and each model is loaded once, on the fastest."""
    tasks, paces, load_ms = plan(models, jobs=500, seed=seed), [1, 2, 8], 2000.0
    work = sum(task.ms for task in tasks) + load_ms * len([model for model in models if model])
    assert Simulation(tasks, paces, load_ms).run() <= 1.1 * work / sum(paces)


def best_end(jobs: int, times: Sequence[float]) -> float:
    """When equal jobs have all ended by the best plan, if an engine takes one of `times` for each."""
    ends = [0.0] * len(times)
    for _ in range(jobs):
        at = min(range(len(times)), key=lambda each: ends[each] + times[each])
        ends[at] += times[at]
    return max(ends)


@pytest.mark.parametrize("ms", [400, 4000, 40_000])
@pytest.mark.parametrize("jobs", [3, 11, 15, 22, 44, 100])
@pytest.mark.parametrize("paces", [[1, 2, 8], [1, 1, 8], [3, 4], [1, 2, 3, 4, 5]])
def test_the_last_jobs_end_when_they_would_by_the_best_plan(jobs: int, ms: float, paces: list[float]) -> None:
    """Also where an engine is about to end its own job, and could take the next one right after that."""
    simulation = Simulation([Task(needs(), ms) for _ in range(jobs)], paces, 0)
    for each in simulation.engines:
        simulation.speeds.observe(each.name, needs().shape, ms / each.pace, warm=True)
    best = best_end(jobs, [ms / pace for pace in paces])
    print(f"{simulation.run() / best:.3f} of the best plan")
    assert simulation.now <= 1.1 * best
