"""Gauges, tool calls, and the two texts."""

import asyncio
from dataclasses import replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.events import Priority
from comfy_mcp.domain.gpu import (
    EngineVram,
    GoneGpu,
    GpuDevice,
    GpuSample,
    GpuSource,
    GpuState,
    ThrottleReason,
)
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.metrics import EngineGauge, Format, Metrics
from comfy_mcp.metrics.metrics import RENDER_EVERY_S
from tests.metrics.conftest import ENGINE, Clock, Log

ELSEWHERE = EngineId("elsewhere")


def gpus(*devices: GpuDevice) -> GpuSample:
    source = GpuSource.NVML if devices else GpuSource.NONE
    return GpuSample(source=source, devices=devices, at_ms=0)


def card(index: int = 0, **known: float) -> GpuDevice:
    return GpuDevice(index=index, name="Card", uuid=f"GPU-{index}", **known)  # type: ignore[arg-type]


def test_both_texts_are_well_formed_and_say_the_same(metrics: Metrics) -> None:
    metrics.http_request(method="GET", route="/metrics", status=200, seconds=0.002)
    metrics.event_dropped()
    text, text_type = metrics.render(Format.TEXT)
    openmetrics, openmetrics_type = metrics.render(Format.OPENMETRICS)
    assert text_type == "text/plain; version=0.0.4; charset=utf-8"
    assert openmetrics_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"

    def samples(families: object) -> set[tuple[str, tuple[tuple[str, str], ...], float]]:
        return {
            (sample.name, tuple(sorted(sample.labels.items())), sample.value)
            for family in families  # type: ignore[attr-defined]
            for sample in family.samples
            if not sample.name.startswith("process_")
        }

    plain = samples(parse_text(text.decode()))
    assert plain == samples(parse_openmetrics(openmetrics.decode()))  # type: ignore[no-untyped-call]
    assert ("comfy_bridge_hub_dropped_events_total", (), 1.0) in plain
    assert ("comfy_bridge_build_info", (("version", "1.2.3"),), 1.0) in plain


def test_the_queue_is_shown_by_priority_and_by_engine(log: Log) -> None:
    waiting = {Priority.HIGH: 3, Priority.LOW: 1}
    log.metrics.set_queue(
        queued={"local": 4, "salad": 1},
        waiting=waiting,
        held=2,
        in_flight={ENGINE: 2, ELSEWHERE: 4, EngineId("x"): 1},
    )
    assert log.value("comfy_bridge_workflows_held", reason="vram") == 2
    assert log.value("comfyui_queue_length") == 5
    shown = {
        each.value: log.value("comfy_bridge_workflows_waiting", priority=each.value) for each in Priority
    }
    assert shown == {"high": 3, "normal": 0, "low": 1}
    assert log.value("comfy_bridge_workflows_in_flight", engine=ENGINE) == 2
    assert log.value("comfy_bridge_workflows_in_flight", engine="other") == 5
    lanes = ("local", "salad", "comfy-api-v2")
    assert [log.value("comfy_bridge_workflows_queued", lane=each) for each in lanes] == [4, 1, 0]
    log.metrics.set_queue(queued={}, waiting={}, held=0, in_flight={})
    assert log.value("comfyui_queue_length") == 0
    assert log.value("comfy_bridge_workflows_queued", lane="local") == 0
    assert log.value("comfy_bridge_workflows_waiting", priority="high") == 0
    assert log.value("comfy_bridge_workflows_in_flight", engine=ENGINE) == 0
    assert log.value("comfy_bridge_workflows_in_flight", engine="other") == 0


def test_an_engine_that_is_down_is_0_and_has_no_queue(log: Log) -> None:
    log.metrics.set_engines([EngineGauge(engine=ENGINE, up=True, driven=True, queue=7)])
    assert log.value("comfy_bridge_engine_up", engine=ENGINE) == 1
    assert log.value("comfy_bridge_engine_driven", engine=ENGINE) == 1
    assert log.value("comfy_bridge_engine_queue_length", engine=ENGINE) == 7
    log.metrics.set_engines([EngineGauge(engine=ENGINE, up=False, driven=False, queue=None)])
    assert log.value("comfy_bridge_engine_up", engine=ENGINE) == 0
    assert log.value("comfy_bridge_engine_driven", engine=ENGINE) == 0
    assert log.value("comfy_bridge_engine_queue_length", engine=ENGINE) is None


def test_gpus_are_shown_as_far_as_they_are_known(log: Log) -> None:
    known = card(0, utilization_percent=0.0, memory_used_bytes=512, memory_total_bytes=1024, power_watts=70.5)
    log.metrics.set_gpus(gpus(known, card(1, temperature_celsius=61.0)))
    assert log.value("comfyui_gpu_utilization", gpu_id="0") == 0
    assert log.value("comfyui_vram_usage_bytes", gpu_id="0") == 512
    assert log.value("comfy_bridge_gpu_vram_total_bytes", gpu_id="0") == 1024
    assert log.value("comfy_bridge_gpu_power_watts", gpu_id="0") == 70.5
    assert log.value("comfy_bridge_gpu_temperature_celsius", gpu_id="0") is None
    assert log.value("comfy_bridge_gpu_temperature_celsius", gpu_id="1") == 61
    assert log.value("comfyui_gpu_utilization", gpu_id="1") is None


def test_a_gpu_that_goes_takes_its_series_with_it(log: Log) -> None:
    log.metrics.set_gpus(gpus(card(0, utilization_percent=5.0), card(1, utilization_percent=9.0)))
    log.metrics.set_gpus(gpus(card(0, utilization_percent=6.0)))
    assert log.value("comfyui_gpu_utilization", gpu_id="0") == 6
    assert log.value("comfyui_gpu_utilization", gpu_id="1") is None
    log.metrics.set_gpus(gpus())
    assert log.value("comfyui_gpu_utilization", gpu_id="0") is None


def test_a_gpu_s_health_and_limits_are_shown(log: Log) -> None:
    hot = replace(
        card(0, temperature_limit_celsius=97.0, power_limit_watts=450.0, ecc_corrected=4),
        throttle_reasons=(ThrottleReason.GPU_IDLE, ThrottleReason.HW_THERMAL),
    )
    lost = replace(card(1), state=GpuState.LOST)
    log.metrics.set_gpus(replace(gpus(hot, lost), gone=(GoneGpu(name="x", uuid="GPU-x"),)))
    assert log.value("comfy_bridge_gpu_ok", gpu_id="0") == 1
    assert log.value("comfy_bridge_gpu_ok", gpu_id="1") == 0
    assert log.value("comfy_bridge_gpus_gone") == 1
    assert log.value("comfy_bridge_gpu_temperature_limit_celsius", gpu_id="0") == 97
    assert log.value("comfy_bridge_gpu_power_limit_watts", gpu_id="0") == 450
    assert log.value("comfy_bridge_gpu_slowed", gpu_id="0", reason="hw_thermal") == 1
    assert log.value("comfy_bridge_gpu_slowed", gpu_id="0", reason="sw_power_cap") == 0
    assert log.value("comfy_bridge_gpu_slowed", gpu_id="0", reason="gpu_idle") is None
    assert log.value("comfy_bridge_gpu_slowed", gpu_id="1", reason="hw_thermal") is None
    assert log.value("comfy_bridge_gpu_ecc_errors", gpu_id="0", kind="corrected") == 4
    assert log.value("comfy_bridge_gpu_ecc_errors", gpu_id="0", kind="uncorrected") is None
    log.metrics.set_gpus(gpus())
    assert log.value("comfy_bridge_gpu_ok", gpu_id="1") is None
    assert log.value("comfy_bridge_gpu_slowed", gpu_id="0", reason="hw_thermal") is None
    assert log.value("comfy_bridge_gpus_gone") == 0


def test_what_an_engine_s_torch_holds_is_summed_over_its_devices(log: Log) -> None:
    def held(engine: EngineId, size: int | None) -> EngineVram:
        return EngineVram(engine=engine, name="Card", type="cuda", torch_total_bytes=size)

    name = "comfy_bridge_engine_torch_vram_bytes"
    both = (held(ENGINE, 5), held(ENGINE, 7), held(ENGINE, None), held(ELSEWHERE, 9))
    log.metrics.set_gpus(replace(gpus(), engines=both))
    assert log.value(name, engine=ENGINE) == 12
    assert log.value(name, engine=ELSEWHERE) is None
    log.metrics.set_gpus(replace(gpus(), engines=(held(ENGINE, None),)))
    assert log.value(name, engine=ENGINE) is None


def test_each_source_of_gauges_says_when_it_last_answered(log: Log, clock: Clock) -> None:
    name = "comfy_bridge_gauges_refreshed_timestamp_seconds"
    assert log.value(name, source="gpu") is None
    clock.now = 7_500
    log.metrics.set_gpus(gpus())
    log.metrics.set_engines([])
    assert log.value(name, source="gpu") == 7.5
    assert log.value(name, source="engines") == 7.5
    assert log.value(name, source="store") is None


def test_tool_calls_count_by_how_they_ended(log: Log) -> None:
    with log.metrics.tool_call("system_status"):
        pass
    with (
        pytest.raises(InvalidInput),
        log.metrics.tool_call("system_status"),
    ):
        raise InvalidInput("No.", next_step="Yes.")
    with pytest.raises(asyncio.CancelledError), log.metrics.tool_call("system_status"):
        raise asyncio.CancelledError
    for status in ("success", "error", "cancelled"):
        counted = log.value("mcp_tool_invocations_total", tool_name="system_status", status=status)
        assert counted == 1
    assert log.value("mcp_tool_duration_seconds_count", tool_name="system_status") == 3


def test_store_and_hub_are_measured(log: Log) -> None:
    log.metrics.store_read(0.003)
    log.metrics.store_wrote(0.25)
    log.metrics.count_subscribers(lambda: 4)
    assert log.value("comfy_bridge_store_seconds_sum", work="read") == 0.003
    assert log.value("comfy_bridge_store_seconds_sum", work="write") == 0.25
    assert b"\ncomfy_bridge_hub_subscribers 4.0\n" in log.metrics.render(Format.TEXT)[0]


def test_tasks_and_streams_are_counted_when_somebody_looks(log: Log) -> None:
    tasks, open_streams = [3], {"websocket": 2}
    log.metrics.count_tasks(lambda: tasks[0])
    log.metrics.count_streams("websocket", lambda: open_streams["websocket"])
    log.metrics.count_streams("websocket", lambda: 10)
    log.metrics.stream_cut_off("sse")
    assert log.value("comfy_bridge_asyncio_tasks") == 3
    assert log.value("comfy_bridge_open_streams", kind="websocket") == 12
    tasks[0], open_streams["websocket"] = 4, 0
    assert log.value("comfy_bridge_asyncio_tasks") == 4
    assert log.value("comfy_bridge_open_streams", kind="websocket") == 10
    assert log.value("comfy_bridge_open_streams", kind="mcp_session") == 0
    assert log.value("comfy_bridge_streams_cut_off_total", kind="sse") == 1
    assert log.value("comfy_bridge_streams_cut_off_total", kind="websocket") == 0


def test_an_invented_method_makes_no_label_of_its_own(log: Log) -> None:
    for number in range(50):
        log.metrics.http_request(method=f"BREW{number}", route="unmatched", status=405, seconds=0.001)
    labels = {"method": "other", "route": "unmatched", "status_code": "405"}
    assert log.value("http_requests_total", **labels) == 50
    assert log.value("http_requests_total", **(labels | {"method": "BREW1"})) is None


def test_a_flood_of_scrapes_is_answered_from_one_text(clock: Clock) -> None:
    seconds = 100.0
    metrics = Metrics(engines=[], version="0", now_ms=clock, monotonic=lambda: seconds)
    asked: list[int] = []

    def subscribers() -> int:
        asked.append(1)
        return len(asked)

    metrics.count_subscribers(subscribers)
    for _ in range(1_000):
        metrics.render(Format.TEXT)
    assert len(asked) == 1
    metrics.event_dropped()
    seconds += RENDER_EVERY_S
    assert b"\ncomfy_bridge_hub_dropped_events_total 1.0\n" in metrics.render(Format.TEXT)[0]
    assert len(asked) == 2
