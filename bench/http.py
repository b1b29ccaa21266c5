"""Everything that is measured over HTTP, in one go."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench.http_files import measure_files
from bench.http_jobs import measure_jobs_over_http
from bench.http_lag import measure_lag
from bench.http_requests import measure_requests
from bench.stats import Section


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpPlan:
    """How often each thing is measured, and how much of it."""

    calls: int = 300
    jobs: int = 100
    rounds: int = 3
    file_rounds: int = 5
    small_mb: float = 8.0
    large_mb: float = 200.0
    events: int = 20
    crowds: tuple[int, ...] = (100, 1_000)


QUICK_HTTP = HttpPlan(
    calls=4, jobs=2, rounds=1, file_rounds=1, small_mb=0.1, large_mb=0.2, events=2, crowds=(2, 3)
)


async def measure_http(url: str, base: Path, folder: Path, plan: HttpPlan) -> AsyncIterator[Section]:
    """`url` is an embedded engine, `base` its base directory. Each section as soon as it is there."""
    folder.mkdir()  # noqa: ASYNC240 - before anything is measured
    yield await measure_requests(url, folder, calls=plan.calls, rounds=plan.rounds)
    yield await measure_jobs_over_http(url, folder, jobs=plan.jobs, rounds=plan.rounds)
    yield await measure_files(
        url,
        base,
        folder,
        small_mb=plan.small_mb,
        large_mb=plan.large_mb,
        rounds=plan.file_rounds,
    )
    yield await measure_lag(folder, events=plan.events, crowds=plan.crowds)
