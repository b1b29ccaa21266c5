"""How far the time left is from the truth: recorded runs of a real ComfyUI, replayed in their order.

Each run is estimated by what those before it taught, through the store, as the bridge does, and judged by how
long it then took. Nothing here depends on the machine that replays.
"""

import gzip
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from bench.processes import Run
from bench.stats import Aim, Section, percentile
from comfy_mcp.domain.events import (
    EngineEvent,
    JobQueued,
    NodeExecuted,
    NodeProgressed,
    NodesCached,
    NodeStarted,
    Priority,
    PromptEnded,
    PromptStarted,
)
from comfy_mcp.domain.graph import Graph, parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.ids import ClientId, JobId, NodeId, PromptId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.domain.node_times import times_of
from comfy_mcp.domain.progress import Progress
from comfy_mcp.domain.time_left import in_range, time_left
from comfy_mcp.domain.transitions import queued
from comfy_mcp.driving.learning import Durations
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Store

RUNS = Path(__file__).with_name("runs.jsonl.gz")
"""Made by `python -m bench.recording`."""

FIRST, LAST, LOOKS = 1 / 3, 0.95, 30
"""From which part of a run to which one looks, and how often: evenly."""

MEDIAN = 25.0
"""Per cent that the median estimate may be off."""

SHORT_MS, LONG_MS = 2_000, 60_000
"""What must never be said while so much is left."""

SLOWER = 60
"""A run of two seconds becomes one of two minutes: the bounds in seconds are judged, too."""

_P = PromptId("p")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One run: what was sent, and what the engine said, with milliseconds since the start. `group`: whose
    history it belongs to."""

    group: str
    what: str
    graph: Graph
    events: tuple[tuple[int, EngineEvent], ...]

    def slower(self, times: int) -> "Recorded":
        return replace(self, events=tuple((at * times, event) for at, event in self.events))


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a client read, and what was true then. Milliseconds."""

    said: int | None
    left: int

    @property
    def off(self) -> float | None:
        """Per cent of the truth."""
        return None if self.said is None else abs(self.said - self.left) / self.left * 100

    @property
    def in_range(self) -> bool:
        if self.said is None:
            return False
        low, high = in_range(self.said)
        return low <= self.left <= high

    @property
    def misleads(self) -> bool:
        return self.said is not None and self.said <= SHORT_MS and self.left > LONG_MS


async def measure_time_left(run: Run) -> list[Section]:
    recorded = list(read())
    groups = sorted({each.group for each in recorded})
    looks = {
        group: await replayed(run.fresh("time-left"), [each for each in recorded if each.group == group])
        for group in groups
    }
    slow = await replayed(
        run.fresh("time-left"), [each.slower(SLOWER) for each in recorded if each.group == groups[-1]]
    )
    rows = {**looks, f"{groups[-1]}, {SLOWER} times slower": slow}
    every = [look for some in rows.values() for look in some]
    return [
        Section(
            title="The time left",
            note=f"{len(recorded)} runs of a real ComfyUI on a CPU that others used too, recorded once and "
            "replayed in their order: pictures of several sizes, steps and batches, two passes, upscaling, "
            "animations, restarts. Each is estimated by what the ones before it taught. From a third of a "
            f"run on a client reads it {LOOKS} times; the error is the distance from what was then left, in "
            "per cent of that.",
            columns=("what", "n", "median error %", "p90 %", "estimated %", "in the range %"),
            rows=tuple(_row(name, some) for name, some in rows.items()),
            aims=(
                *(
                    Aim(
                        what=f"time left, median error, {name}",
                        value=_errors(some, 50),
                        limit=MEDIAN,
                        unit="%",
                    )
                    for name, some in rows.items()
                ),
                Aim(
                    what="time left said to be 2 s or less while it was more than a minute",
                    value=sum(look.misleads for look in every),
                    limit=0,
                    unit="times",
                ),
            ),
        )
    ]


def read(file: Path = RUNS) -> Iterator[Recorded]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            run = json.loads(line)
            events = tuple((at, _event(*rest)) for at, *rest in run["events"])
            yield Recorded(
                group=run["engine"], what=run["what"], graph=parse_graph(run["graph"]), events=events
            )


def _event(kind: str, *of: Any) -> EngineEvent:
    match kind:
        case "start":
            return PromptStarted(prompt_id=_P)
        case "cached":
            return NodesCached(prompt_id=_P, nodes=tuple(map(NodeId, of[0])))
        case "node":
            return NodeStarted(prompt_id=_P, node=NodeId(of[0]))
        case "step":
            return NodeProgressed(prompt_id=_P, node=NodeId(of[0]), value=of[1], maximum=of[2])
        case "executed":
            return NodeExecuted(prompt_id=_P, node=NodeId(of[0]))
        case _:
            return PromptEnded(prompt_id=_P)


async def replayed(folder: Path, runs: Sequence[Recorded]) -> list[Look]:
    """Over one history, which is empty at first."""
    store = await Store.open(load_settings(state_dir=folder))
    try:
        durations, looks = Durations(store, monotonic), list[Look]()
        for run in runs:
            keys = {key for times in times_of(run.graph).values() for key in times.keys}
            found, observed = _replay(run, await durations.known(keys))
            looks += found
            durations.observe(observed)
            await durations.save()
        return looks
    finally:
        await store.close()


def _replay(run: Recorded, known: Mapping[str, float]) -> tuple[list[Look], Mapping[str, list[float]]]:
    progress = Progress(run.graph, check_graph(run.graph, None).needed, known, started_at=0)
    begin, end = run.events[0][0], run.events[-1][0]
    parts = [FIRST + (LAST - FIRST) * number / (LOOKS - 1) for number in range(LOOKS)]
    todo, looks, shown = [begin + round((end - begin) * part) for part in parts], list[Look](), _RUNNING
    for at, event in run.events:
        while todo and todo[0] < at:
            looks.append(Look(said=time_left(shown, todo[0]), left=end - todo.pop(0)))
        if progress.apply(event, at):
            shown = replace(shown, eta_ms=progress.eta_ms(at), progress_at=at)
    return looks, progress.observed()


_RUNNING = replace(
    queued(
        JobQueued(
            job_id=JobId("j"), at=0, client=ClientId("c"), lane="local", priority=Priority.LOW, node_count=1
        )
    ),
    status=JobStatus.RUNNING,
)


def _row(name: str, looks: Sequence[Look]) -> tuple[str, ...]:
    estimated = [look for look in looks if look.said is not None]
    return (
        name,
        str(len(looks)),
        f"{_errors(looks, 50):.1f}",
        f"{_errors(looks, 90):.1f}",
        f"{len(estimated) / len(looks) * 100:.0f}",
        f"{statistics.mean(look.in_range for look in estimated) * 100:.0f}",
    )


def _errors(looks: Sequence[Look], percent: float) -> float:
    return percentile([look.off for look in looks if look.off is not None], percent)
