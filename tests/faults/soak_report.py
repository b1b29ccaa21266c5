"""What a soak measured and found, and how much each series may grow."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.faults.flat import Bound, Point, Verdict, judge

KIB, MIB = 2**10, 2**20

BOUNDS: Mapping[str, Bound] = {
    "memory": Bound(noise=2 * MIB, per_job=128),
    "files": Bound(noise=6),  # idle connections, of the bridge to the engine
    "threads": Bound(noise=8),  # of asyncio's pool, which takes another one as long as it may
    "tasks": Bound(noise=2),
    "subscribers": Bound(noise=0),
    "series": Bound(noise=64),  # a status code that a route had not answered before is a whole histogram
    "database": Bound(noise=512 * KIB),
    "wal": Bound(noise=6 * MIB, most=18 * MIB),
}
"""By the last word of a series' name, in bytes or pieces. `series` are those of /metrics, for each of its
labels: a job's id among them would be one more for each job."""


@dataclass(slots=True, kw_only=True)
class Soak:
    """What came of it. `series`: by name, what was measured at each rest. `prompts`: in the engine's record.
    `visits`: subscribers by kind."""

    jobs: int = 0
    seconds: float = 0.0
    reconnects: int = 0
    prompts: int = 0
    most_streams: int = 0
    visits: dict[str, int] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    series: dict[str, list[Point]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def verdicts(self) -> dict[str, Verdict]:
        return {name: judge(points, BOUNDS[name.split()[-1]]) for name, points in self.series.items()}


IN_BYTES = {"memory", "database", "wal"}


def table(soak: Soak) -> list[str]:
    """By series: the first rest, the second half, and how small a leak would have shown."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(soak.states.items()))
    visits = ", ".join(f"{count} {kind}" for kind, count in sorted(soak.visits.items()))
    columns = ("first", "half", "last", "highest", "growth", "allowed", "finds, a job")
    head = f"{'at rest':<22}" + "".join(f"{column:>14}" for column in columns) + "  flat"
    lines = [
        f"{soak.jobs} jobs ({states}), {soak.prompts} prompts, {soak.reconnects} reconnects",
        f"subscribers: {sum(soak.visits.values())} ({visits}), at most {soak.most_streams} at once",
        f"{soak.seconds:.0f} s",
        "",
        head,
    ]
    for name, verdict in soak.verdicts().items():
        shown = [soak.series[name][0][1], verdict.first, verdict.last, verdict.highest]
        shown += [verdict.growth, verdict.allowed]
        in_bytes = name.split()[-1] in IN_BYTES
        cells = [f"{value / MIB:.2f} MiB" if in_bytes else f"{value:.0f}" for value in shown]
        cells.append(f"{verdict.finds:.0f} bytes" if in_bytes else f"{verdict.finds:.4f}")
        flat = "yes" if verdict.flat else "NO"
        lines.append(f"{name:<22}" + "".join(f"{cell:>14}" for cell in cells) + f"  {flat}")
    return lines
