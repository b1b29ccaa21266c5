"""What a sample says, what is worth telling, and what is wrong."""

from dataclasses import replace

import pytest

from comfy_mcp.domain.gpu import (
    MAX_NAME,
    SLOWED,
    EngineVram,
    GoneGpu,
    GpuDevice,
    GpuState,
    MigDevice,
    ThrottleReason,
    gpu_problems,
    plain_name,
)
from comfy_mcp.domain.gpu_changes import changed
from tests.support.gpus import CARD, GIB, sample

VRAM = EngineVram(
    engine="e",
    name="Card",
    type="cuda",
    vram_total_bytes=24 * GIB,
    vram_free_bytes=20 * GIB,
    torch_total_bytes=3 * GIB,
    gpu=0,
)
SLICE = MigDevice(index=0, name="s", uuid="MIG-1", memory_used_bytes=GIB, memory_total_bytes=5 * GIB)


def test_an_engine_has_a_device_where_that_is_certain() -> None:
    other = replace(CARD, index=1)
    remote = replace(CARD, index=2, engine="far")
    known = sample(CARD, other, remote, engines=[VRAM, replace(VRAM, engine="far", gpu=None)])
    assert known.device_of("e") is CARD
    assert known.device_of("far") is None
    assert known.device_of("nobody") is None
    both = sample(CARD, other, engines=[VRAM, replace(VRAM, gpu=1)])
    assert both.device_of("e") is None


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090"),
        ("  Ä 显卡 \n", "Ä 显卡"),
        ("a\x1b[2Jb\x00c\nd", "a?[2Jb?c?d"),
        ("\u202egnp.exe\ud800", "?gnp.exe?"),
        ("x" * 5_000, "x" * (MAX_NAME - 1) + "…"),
        (" ", ""),
    ],
)
def test_a_name_is_one_bounded_line(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_only_what_takes_speed_slows_a_gpu() -> None:
    device = replace(CARD, throttle_reasons=tuple(ThrottleReason))
    assert device.slowed_by == SLOWED
    assert CARD.slowed_by == ()


def test_a_good_gpu_is_no_problem() -> None:
    slowed = replace(CARD, throttle_reasons=(ThrottleReason.SW_POWER_CAP,), ecc_uncorrected=0)
    assert gpu_problems(sample(slowed)) == ()


def test_each_problem_is_a_sentence() -> None:
    hot = replace(CARD, throttle_reasons=(ThrottleReason.SW_THERMAL,), temperature_celsius=91.6)
    blind = replace(hot, index=1, temperature_celsius=None)
    broken = replace(CARD, index=2, ecc_uncorrected=2)
    lost = replace(hot, index=3, state=GpuState.LOST, fault="GPU is lost")
    gone = GoneGpu(name="Old", uuid="GPU-o")
    assert gpu_problems(sample(hot, blind, broken, lost, gone=(gone,))) == (
        "GPU 0 (Card) is too hot and slows down at 92 °C: check its cooling.",
        "GPU 1 (Card) is too hot and slows down: check its cooling.",
        "GPU 2 (Card) has 2 uncorrected memory error(s): results may be wrong.",
        "GPU 3 (Card) does not work: GPU is lost. Reset it or restart the machine.",
        "GPU Old (GPU-o) has disappeared: check the driver's log, then reset it or restart.",
    )


@pytest.mark.parametrize(
    "small",
    [
        {},
        {"utilization_percent": 59.9},
        {"utilization_percent": 40.1},
        {"memory_used_bytes": 5 * GIB},
        {"temperature_celsius": 64.9},
        {"power_watts": 400.0},
        {"graphics_clock_mhz": 1},
        {"process_count": 3},
        {"throttle_reasons": (ThrottleReason.GPU_IDLE,)},
        {"ecc_corrected": 5},
    ],
)
def test_small_changes_are_not_told(small: dict[str, object]) -> None:
    assert not changed(sample(CARD), sample(replace(CARD, **small)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "real",
    [
        {"utilization_percent": 60.0},
        {"utilization_percent": 40.0},
        {"utilization_percent": None},
        {"memory_used_bytes": 6 * GIB},
        {"memory_used_bytes": 2 * GIB},
        {"memory_used_bytes": None},
        {"memory_total_bytes": 23 * GIB},
        {"temperature_celsius": 65.0},
        {"temperature_celsius": 55.0},
        {"state": GpuState.LOST},
        {"name": "Other"},
        {"uuid": "GPU-b"},
        {"index": 1},
        {"engine": "e"},
        {"throttle_reasons": (ThrottleReason.SW_POWER_CAP,)},
        {"ecc_uncorrected": 1},
        {"mig_devices": (SLICE,)},
    ],
)
def test_real_changes_are_told(real: dict[str, object]) -> None:
    assert changed(sample(CARD), sample(replace(CARD, **real)))  # type: ignore[arg-type]


def test_what_comes_and_goes_is_told() -> None:
    assert changed(sample(CARD), sample(CARD, replace(CARD, index=1)))
    assert changed(sample(CARD), sample(reason="no driver"))
    assert changed(sample(reason="no driver"), sample(reason="engine a does not answer"))
    assert changed(sample(CARD), sample(CARD, gone=(GoneGpu(name="x", uuid="y"),)))
    assert changed(sample(CARD), sample(CARD, engines=[VRAM]))
    assert not changed(sample(CARD), sample(CARD, reason="NVML: a passing word"))
    assert not changed(sample(reason="no driver"), sample(reason="no driver"))


def test_slices_and_engines_have_thresholds_too() -> None:
    cut = replace(CARD, mig_devices=(SLICE,))
    small = replace(CARD, mig_devices=(replace(SLICE, memory_used_bytes=GIB + GIB // 8),))
    large = replace(CARD, mig_devices=(replace(SLICE, memory_used_bytes=2 * GIB),))
    other = replace(CARD, mig_devices=(replace(SLICE, uuid="MIG-2"),))
    assert [changed(sample(cut), sample(each)) for each in (cut, small, large, other)] == [
        False, False, True, True,
    ]  # fmt: skip
    engines = [
        replace(VRAM, vram_free_bytes=19 * GIB),
        replace(VRAM, vram_free_bytes=18 * GIB),
        replace(VRAM, torch_total_bytes=4 * GIB),
        replace(VRAM, torch_total_bytes=5 * GIB),
        replace(VRAM, gpu=None),
        replace(VRAM, torch_free_bytes=GIB),
    ]
    before = sample(CARD, engines=[VRAM])
    assert [changed(before, sample(CARD, engines=[each])) for each in engines] == [
        False, True, False, True, True, False,
    ]  # fmt: skip


def test_memory_of_an_unknown_size_that_moves_at_all_is_told() -> None:
    blind = GpuDevice(index=0, name="x", memory_used_bytes=1)
    assert changed(sample(blind), sample(replace(blind, memory_used_bytes=2)))
    assert not changed(sample(blind), sample(blind))
