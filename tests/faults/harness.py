"""Many trials at once in one event loop, each with processes of its own."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults.engines import OpenEngines, TakeEngine, embedded_engines
from tests.faults.kinds import FLEET_KINDS, KINDS, SERVER_KINDS, Kind
from tests.faults.trial import Result, run_trial
from tests.support.postgres import Server, server

FLEET_ENGINES = 5

AT_ONCE = 6
"""Trials mostly wait: for leases to expire, for polls, for engines to come back."""


async def run_trials(
    folder: Path,
    numbers: Sequence[int],
    *,
    seed: int = 0,
    at_once: int = AT_ONCE,
    engines: OpenEngines = embedded_engines,
    store: str = "sqlite",
    kinds: Sequence[Kind] | None = None,
    fleet: bool = False,
    on_result: Callable[[Result], None] = lambda _result: None,
) -> list[Result]:
    """Trial n has the seed `seed + n` and the kind `(seed + n) mod kinds`, so the seed alone repeats it.
    After the first violation no new trial begins. The folder of a good trial goes away. `fleet`: of three
    bridges and five engines, on PostgreSQL."""
    kinds = kinds or (FLEET_KINDS if fleet else KINDS if store == "sqlite" else SERVER_KINDS)
    folder.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    waiting = iter(numbers)

    async def work(worker: int) -> None:
        async with engines(folder / f"engine-{worker}") as take_engine:
            if store == "sqlite":
                await trials_with(take_engine, None)
                return
            with server() as started:
                await trials_with(take_engine, started)

    async def trials_with(take_engine: TakeEngine, started: Server | None) -> None:
        for number in waiting:
            if any(result.outcome.violations for result in results):
                return
            own = seed + number
            place = folder / f"seed-{own}"
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
            kind, count = kinds[own % len(kinds)], FLEET_ENGINES if fleet else 1
            result = await run_trial(take_engine, place, own, kind, started, engines=count)
            results.append(result)
            on_result(result)
            if not result.outcome.violations:
                await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    async with asyncio.TaskGroup() as tasks:
        for worker in range(at_once):
            tasks.create_task(work(worker))
    return results


REAL_KINDS = tuple(kind for kind in KINDS if kind.history_limit is None and not kind.embedded_only)
"""For the real ComfyUI, whose history has a length of its own, and that is what it is."""


def table(results: Sequence[Result]) -> list[str]:
    """By fault: trials, and what came of the jobs."""
    columns = ("completed", "failed", "cancelled")
    head = f"{'fault':<30}{'trials':>7}{'jobs':>6}" + "".join(f"{name:>11}" for name in columns)
    lines = [head + f"{'requeued':>10}{'twice':>7}{'unknown':>9}{'violations':>12}{'s':>7}"]
    met = {result.kind for result in results}
    names = [name for name in dict.fromkeys(kind.name for kind in (*KINDS, *SERVER_KINDS)) if name in met]
    for name in [*names, "all"]:
        mine = [result for result in results if name in (result.kind, "all")]
        states: Counter[str] = Counter()
        for result in mine:
            states.update(result.outcome.states)
        lines.append(
            f"{name:<30}{len(mine):>7}{states.total():>6}"
            + "".join(f"{states[column]:>11}" for column in columns)
            + f"{sum(result.outcome.requeued for result in mine):>10}"
            + f"{sum(result.outcome.ran_twice for result in mine):>7}"
            + f"{sum(result.outcome.unknowable for result in mine):>9}"
            + f"{sum(bool(result.outcome.violations) for result in mine):>12}"
            + f"{max((result.seconds for result in mine), default=0):>7.1f}"
        )
    aimed = [result for result in results if " at a " in result.kind]
    struck = sum(any("the point struck" in note for note in result.notes) for result in aimed)
    causes: Counter[str] = Counter()
    for result in results:
        causes.update(result.outcome.causes)
    return [
        *lines,
        f"failed as: {', '.join(f'{kind} {count}' for kind, count in causes.most_common())}",
        f"kill points and pauses that struck: {struck} of {len(aimed)}",
    ]


def complaint(result: Result, engine: str = "embedded", store: str = "sqlite", *, fleet: bool = False) -> str:
    how = "FLEET=1" if fleet else f"ENGINE={engine} STORE={store}"
    again = f"make faults N=1 SEED={result.seed} {how}"
    return "\n".join(
        [
            f"seed {result.seed} ({result.kind}); again: {again}",
            *(f"  - {violation}" for violation in result.outcome.violations),
            *(f"    {note}" for note in result.notes),
        ]
    )
