"""Metrics of a process in which everything has happened."""

from dataclasses import replace

from comfy_mcp.domain.events import EngineConnected, JobCompleted, JobEvent, JobStarted, Priority, StoredEvent
from comfy_mcp.domain.gpu import EngineVram, ThrottleReason
from comfy_mcp.domain.ids import JobId
from comfy_mcp.metrics import EngineGauge, Metrics
from tests.metrics.conftest import ENGINE, claimed
from tests.support.gpus import CARD, sample
from tests.support.jobs import queued_event

JOB = JobId("job-1")
BUSY_CARD = replace(
    CARD,
    temperature_limit_celsius=90.0,
    power_watts=300.0,
    power_limit_watts=450.0,
    throttle_reasons=(ThrottleReason.HW_THERMAL,),
    ecc_corrected=1,
    ecc_uncorrected=0,
)
ITS_ENGINE = EngineVram(engine=ENGINE, name="Card", type="cuda", torch_total_bytes=1)


def happened(metrics: Metrics) -> None:
    """Every metric gets the series that a busy process shows."""
    happening: tuple[JobEvent, ...] = (
        queued_event(JOB, at=1_000, priority=Priority.NORMAL),
        claimed(JOB),
        JobStarted(job_id=JOB, at=2_000, attempt=1),
        JobCompleted(job_id=JOB, at=5_000, attempt=1),
    )
    for seq, event in enumerate(happening, start=1):
        metrics.hear(StoredEvent(seq=seq, event=event))
    metrics.hear_engine(ENGINE, EngineConnected(sid="a"))
    metrics.set_queue(queued={"local": 1}, waiting={}, held=1, in_flight={ENGINE: 1})
    metrics.set_limits([])
    metrics.set_store_bytes({"database": 1, "wal": 1})
    metrics.set_spending(1.0, 2.0)
    metrics.set_engines([EngineGauge(engine=ENGINE, up=True, driven=True, queue=1)])
    metrics.set_gpus(sample(BUSY_CARD, engines=[ITS_ENGINE]))
    for status in (200, 500):
        metrics.http_request(method="GET", route="/v1/status", status=status, seconds=0.1)
    metrics.http_error(error_type="internal", route="/v1/status")
    with metrics.tool_call("system_status"):
        pass
