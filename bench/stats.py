"""Samples of times, their percentiles, and what was aimed at. All times are milliseconds."""

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


def percentile(values: Sequence[float], percent: float) -> float:
    """Between the two nearest values, by their distance. Raises ValueError when there is none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@dataclass(slots=True, kw_only=True)
class Sample:
    """What was measured, in the order in which it was."""

    name: str
    values: list[float] = field(default_factory=list)

    @property
    def p50(self) -> float:
        return statistics.median(self.values)

    @property
    def p99(self) -> float:
        return percentile(self.values, 99)

    async def time(self, work: Callable[[], Awaitable[T]]) -> T:
        """Await `work` and note how long it took."""
        begin = time.perf_counter()
        result = await work()
        self.values.append((time.perf_counter() - begin) * 1000)
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """A figure and the most it should be."""

    what: str
    value: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table. `note` says how it was measured."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    aims: tuple[Aim, ...] = ()


def ratio(sample: Sample, base: Sample) -> float:
    """Of the medians: it holds on a machine whose speed wavers, because both were measured in turn."""
    return sample.p50 / base.p50


def row(sample: Sample, base: Sample | None = None) -> tuple[str, ...]:
    """Name, count, p50, p99, and how it compares with `base`."""
    compared = ("—", "—")
    if base is not None:
        compared = (f"{sample.p50 - base.p50:+.2f}", f"{ratio(sample, base):.2f}")
    return (sample.name, str(len(sample.values)), f"{sample.p50:.2f}", f"{sample.p99:.2f}", *compared)


TIMES = ("what", "n", "p50 ms", "p99 ms", "p50 - first", "p50 ÷ first")
