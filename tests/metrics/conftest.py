"""Metrics with a clock that stands still until it is set."""

from dataclasses import dataclass, field

import pytest

from comfy_mcp.domain.events import JobClaimed, JobEvent, StoredEvent
from comfy_mcp.domain.ids import EngineId, JobId, PromptId
from comfy_mcp.metrics import Metrics

ENGINE = EngineId("one")


@dataclass(slots=True)
class Clock:
    now: int = 1_000

    def __call__(self) -> int:
        return self.now


@dataclass(slots=True)
class Log:
    """Hands events to the metrics as the hub does, each with the next seq."""

    metrics: Metrics
    clock: Clock
    events: list[StoredEvent] = field(default_factory=list)

    def append(self, *happened: JobEvent) -> None:
        for event in happened:
            self.events.append(StoredEvent(seq=len(self.events) + 1, event=event))
            self.metrics.hear(self.events[-1])

    def value(self, name: str, **labels: str) -> float | None:
        """None: there is no such series."""
        return self.metrics.registry.get_sample_value(name, labels)


def claimed(job_id: JobId, *, attempt: int = 1, engine: EngineId = ENGINE, at: int = 1_500) -> JobClaimed:
    return JobClaimed(
        job_id=job_id, at=at, attempt=attempt, engine=engine, prompt_id=PromptId(f"{job_id}-{attempt}")
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Metrics:
    return Metrics(engines=[ENGINE], version="1.2.3", now_ms=clock)


@pytest.fixture
def log(metrics: Metrics, clock: Clock) -> Log:
    return Log(metrics, clock)
