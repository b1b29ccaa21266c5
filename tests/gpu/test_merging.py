"""One list out of the driver's and the engines' words."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.gpu import EngineVram, GpuSample, GpuSource, MigDevice
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.gpu.engines import MAX_DEVICES, vram_of_engine
from comfy_mcp.gpu.merging import merge
from comfy_mcp.gpu.nvml import NvmlReading
from tests.support.gpus import CARD, GIB, card_stats, reading

HERE = EngineId("here")
OTHER = replace(CARD, index=1, uuid="GPU-b")


def said(stats: Mapping[str, Any], engine: EngineId = HERE) -> tuple[EngineVram, ...]:
    return vram_of_engine(stats, engine)


def merged(nvml: NvmlReading, *stats: Mapping[str, Any], local: bool = True) -> GpuSample:
    """Each of `stats` from an engine of its own."""
    answers = {EngineId(f"e{i}"): vram_of_engine(each, EngineId(f"e{i}")) for i, each in enumerate(stats)}
    return merge(nvml, answers, local=answers if local else (), at_ms=1)


def places(sample: GpuSample) -> list[int | None]:
    return [each.gpu for each in sample.engines]


def test_a_gpu_of_this_machine_is_listed_once_with_its_engines_word_beside() -> None:
    sample = merged(reading(CARD), card_stats())
    assert sample.devices == (CARD,)
    (vram,) = sample.engines
    assert (vram.engine, vram.name, vram.gpu) == ("e0", "Card", 0)
    assert (vram.torch_total_bytes, vram.torch_free_bytes) == (3 * GIB, GIB)
    assert sample.device_of("e0") == CARD


def test_a_remote_engines_gpu_is_a_gpu_of_its_own() -> None:
    sample = merged(reading(CARD), card_stats(), local=False)
    assert [(each.index, each.engine) for each in sample.devices] == [(0, None), (1, "e0")]
    assert sample.devices[1].memory_used_bytes == 2 * GIB
    assert sample.source is GpuSource.NVML
    assert places(sample) == [None]
    assert sample.device_of("e0") is None


@pytest.mark.parametrize(
    "elsewhere", [{"name": "cuda:0 Another"}, {"vram_total": 12 * GIB, "vram_free": 1}], ids=["name", "size"]
)
def test_a_tunnel_to_another_machine_is_not_taken_for_this_one(elsewhere: dict[str, Any]) -> None:
    sample = merged(reading(CARD), card_stats(**elsewhere))
    assert [each.engine for each in sample.devices] == [None, "e0"]


def test_of_two_equal_cards_the_one_with_as_much_free_is_meant() -> None:
    full = replace(OTHER, memory_used_bytes=20 * GIB)
    assert places(merged(reading(full, CARD), card_stats())) == [0]
    assert places(merged(reading(CARD, full), card_stats(vram_free=5 * GIB))) == [1]


@pytest.mark.parametrize("free", [21 * GIB, 10 * GIB, None], ids=["both", "neither", "unknown"])
def test_where_two_cards_fit_nothing_is_claimed_and_nothing_listed_twice(free: int | None) -> None:
    sample = merged(reading(CARD, OTHER), card_stats(vram_free=free))
    assert places(sample) == [None]
    assert len(sample.devices) == 2


def test_words_of_an_earlier_moment_are_not_compared_with_what_is_free_now() -> None:
    """Else a card that is idle now would be taken for one that was idle then."""
    full = replace(CARD, memory_used_bytes=20 * GIB)
    answers = {HERE: [replace(each, gpu=0) for each in said(card_stats())]}
    here, nowhere = [
        merge(now, answers, local=[HERE], at_ms=1, fresh=False)
        for now in (reading(full, OTHER), reading(replace(OTHER, index=1)))
    ]
    assert places(here) == [0]
    assert places(nowhere) == [None]


def test_a_card_that_does_not_say_its_memory_fits_by_name_only() -> None:
    blind = replace(CARD, memory_total_bytes=None, memory_used_bytes=None)
    assert places(merged(reading(blind), card_stats())) == [0]
    assert places(merged(reading(blind, replace(blind, index=1)), card_stats())) == [None]


def test_a_slice_belongs_to_its_card_and_is_not_measured_as_the_whole() -> None:
    cut = replace(CARD, mig_devices=(MigDevice(index=0, name="Card MIG 1g.5gb"),))
    sample = merged(reading(cut), card_stats(name="cuda:0 Card MIG 1g.5gb", vram_total=5 * GIB))
    assert len(sample.devices) == 1
    assert places(sample) == [None]


def test_without_a_driver_the_engines_are_the_source() -> None:
    sample = merged(
        NvmlReading(devices=(), reason="NVML: no"), card_stats(), card_stats(type="mps", name="mps")
    )
    assert sample.source is GpuSource.ENGINE
    assert [(each.index, each.name) for each in sample.devices] == [(0, "Card"), (1, "mps")]
    assert sample.reason is None


@pytest.mark.parametrize(
    "lie",
    [float("nan"), float("inf"), -1, 1e300, "24", None, True, [], {}],
    ids=str,
)
def test_a_number_that_is_none_is_unknown(lie: object) -> None:
    (vram,) = said(card_stats(vram_total=lie, torch_vram_free=lie, index=lie))
    assert (vram.vram_total_bytes, vram.torch_free_bytes, vram.index) == (None, None, None)
    assert vram.vram_free_bytes == 21 * GIB


def test_more_free_than_there_is_says_nothing() -> None:
    (vram,) = said(card_stats(vram_free=99 * GIB, torch_vram_free=4 * GIB))
    assert (vram.vram_total_bytes, vram.vram_free_bytes) == (23 * GIB, None)
    assert (vram.torch_total_bytes, vram.torch_free_bytes) == (3 * GIB, None)


def test_a_torch_that_holds_more_than_there_is_says_nothing() -> None:
    (vram,) = said(card_stats(torch_vram_total=24 * GIB))
    assert (vram.vram_total_bytes, vram.torch_total_bytes) == (23 * GIB, None)
    (vram,) = said(card_stats(torch_vram_total=23 * GIB))
    assert vram.torch_total_bytes == 23 * GIB


@pytest.mark.parametrize(
    "stats",
    [{}, {"devices": None}, {"devices": {}}, {"devices": ["cuda", 3, None, {}, {"type": 5}, {"type": ""}]}],
    ids=str,
)
def test_stats_of_another_shape_are_no_gpu(stats: dict[str, Any]) -> None:
    assert said(stats) == ()


def test_missing_fields_are_unknown_and_a_name_is_made_plain() -> None:
    (vram,) = said({"devices": [{"type": "xpu"}]})
    assert (vram.name, vram.vram_total_bytes, vram.torch_total_bytes) == ("xpu", None, None)
    (vram,) = said(card_stats(name="cuda:0 A\x1b[2J\nB : native"))
    assert vram.name == "A?[2J?B"


def test_an_engine_lists_no_more_devices_than_a_machine_has() -> None:
    assert len(said({"devices": card_stats()["devices"] * 5_000})) == MAX_DEVICES
