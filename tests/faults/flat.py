"""Is a measured series flat? A decision on numbers alone: no process, no clock, no machine.

A soak measures at rests: so many jobs done, nobody connected, nothing under way. What is left then should not
depend on how many jobs there have been. The first half of the rests is for caches to fill and for the
allocator to find its size; judged is the second half:

- **growth** is the Theil-Sen slope (the median of the slopes between all pairs of rests) times the jobs of
  that half. A least-squares line would follow one outlier, as a rest just before the garbage collector came;
  this median has to be moved by a quarter of the rests or more.
- **allowed** is `noise`, what comes and goes whatever the number of jobs (the allocator takes memory by the
  MiB, an idle connection is an open file), plus `per_job` for each job of that half.

So a leak of more than `noise / jobs + per_job` for each job is found, however slow or busy the machine is,
and the longer the soak, the smaller the leak that can't hide: `finds` says how small.
"""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_RESTS = 6
"""In the second half: 15 pairs. Of fewer the median says little."""

Point = tuple[int, float]
"""(jobs done so far, what was measured)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Both in the series' own unit. `most`: no rest may show more, whatever the trend; None: any."""

    noise: float
    per_job: float = 0.0
    most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """About the second half of a series; `jobs` are those done in it. All but `jobs` in the series' unit."""

    jobs: int
    first: float
    last: float
    growth: float
    allowed: float
    highest: float
    most: float | None

    @property
    def flat(self) -> bool:
        return self.growth <= self.allowed and (self.most is None or self.highest <= self.most)

    @property
    def finds(self) -> float:
        """The smallest leak for each job that would not have passed."""
        return self.allowed / self.jobs


def judge(points: Sequence[Point], bound: Bound) -> Verdict:
    """`points` in the order in which they were measured. Raises ValueError when there are too few."""
    half = points[len(points) // 2 :]
    if len(half) < LEAST_RESTS:
        raise ValueError(f"{len(points)} rests are too few: the second half needs {LEAST_RESTS}")
    jobs = half[-1][0] - half[0][0]
    return Verdict(
        jobs=jobs,
        first=half[0][1],
        last=half[-1][1],
        growth=slope(half) * jobs,
        allowed=bound.noise + bound.per_job * jobs,
        highest=max(value for _, value in half),
        most=bound.most,
    )


def slope(points: Sequence[Point]) -> float:
    """Theil-Sen: the median slope over all pairs of points, in units per job."""
    return statistics.median(
        (later - earlier) / (after - before)
        for (before, earlier), (after, later) in itertools.combinations(points, 2)
        if after > before
    )
