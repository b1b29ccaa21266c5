"""docs/gpu.md names what is shown, the states, and the thresholds as they are."""

import json
import re
from pathlib import Path

from pydantic.alias_generators import to_camel

from comfy_mcp.domain import gpu_changes
from comfy_mcp.domain.gpu import MAX_NAME, GpuSource, GpuState, ThrottleReason
from comfy_mcp.domain.gpu_use import SETTLED_S
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.vram import KEPT_PEAKS, NEWS_SHARE, SLACK, EngineRoom, WaitingFor
from comfy_mcp.driving.memory_gate import KEPT_S, MAX_HOLD_MS
from comfy_mcp.gpu.monitor import JOB_SHARE, SAMPLE_S
from comfy_mcp.gpu.nvml_device import MAX_PROCESSES
from comfy_mcp.operations.shapes import EngineVramItem, GpuItem, GpuMemory, GpuResult, WorkflowResult
from comfy_mcp.operations.views import waiting_item
from comfy_mcp.server.notifications import GPU_PAUSE_S
from comfy_mcp.store.store import KEPT_SHAPES

PAGE = (Path(__file__).parent.parent / "docs" / "gpu.md").read_text(encoding="utf-8")
CODE = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", PAGE))))


def test_everything_that_is_shown_is_named() -> None:
    fields = {name for model in (GpuItem, GpuMemory, GpuResult) for name in model.model_fields}
    shown = {to_camel(name) for name in fields - {"sampled_at", "warnings"}}
    assert shown - CODE == set()
    assert {"vramTotal", "vramFree", "torchTotal", "torchFree"} <= CODE
    assert {to_camel(name) for name in EngineVramItem.model_fields if "torch" in name} <= CODE
    took = {to_camel(name) for name in WorkflowResult.model_fields if "gpu" in name or "vram" in name}
    assert took == {"gpuSeconds", "peakVramBytes"}
    assert took <= CODE


def test_every_state_source_and_reason_is_named() -> None:
    words = {each.value for kind in (GpuState, GpuSource, ThrottleReason) for each in kind}
    assert words - CODE == set()


def test_the_thresholds_are_those_of_the_code() -> None:
    assert f"| utilisation | {gpu_changes.UTILIZATION_POINTS:.0f} points |" in PAGE
    assert f"| {gpu_changes.MEMORY_SHARE:.0%} of the device's memory |".replace("%", " %") in PAGE
    assert f"| temperature | {gpu_changes.TEMPERATURE_DEGREES:.0f} °C |" in PAGE
    assert GPU_PAUSE_S == 1.0
    assert "at most once a second" in PAGE
    assert f"the {MAX_PROCESSES} that hold most" in PAGE
    assert f"after {MAX_NAME} characters" in PAGE
    assert f"{SETTLED_S} s after the start" in PAGE


def test_the_paces_are_those_of_the_code() -> None:
    assert "One sample serves everybody for\ntwo seconds." in PAGE
    assert "every second" in PAGE
    assert (SAMPLE_S, JOB_SHARE) == (2, 0.5)


def test_the_rule_for_memory_has_the_numbers_of_the_code() -> None:
    assert f"of the last {KEPT_PEAKS} of a shape" in PAGE
    assert f"shortage of less than {SLACK:.0%} of the device".replace("%", " %") in PAGE
    assert f"changed by {NEWS_SHARE:.0%} of the device".replace("%", " %") in PAGE
    assert f"is kept for {KEPT_S:.0f} s" in " ".join(PAGE.split())
    assert "after an hour it runs all the same" in " ".join(PAGE.split())
    assert MAX_HOLD_MS == 3_600_000
    assert "COMFY_BRIDGE_VRAM_HOLD" in CODE
    assert "A thousand shapes" in PAGE
    assert KEPT_SHAPES == 1_000


def test_the_example_of_a_held_job_is_what_is_shown() -> None:
    gib = 2**30
    room = EngineRoom(engine=EngineId("big"), room_bytes=10 * gib, total_bytes=24 * gib)
    waiting = WaitingFor(since=1_764_000_000_000, need_bytes=20 * gib, engines=(room,))
    (example,) = re.findall(r'"waitingFor": (\{.*?\})\n```', PAGE, re.DOTALL)
    assert json.loads(example) == waiting_item(waiting).model_dump(by_alias=True)
