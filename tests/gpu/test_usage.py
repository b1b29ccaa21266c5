"""Which runs are measured, and for how long they are kept in mind."""

from dataclasses import dataclass, replace
from pathlib import Path

from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.gpu import GpuUsage, local_engines
from comfy_mcp.gpu.engines import vram_of_engine
from comfy_mcp.gpu.usage import MAX_RUNS
from comfy_mcp.settings import load_settings
from tests.support.gpus import GIB, busy, card_stats, sample

HERE, FAR = EngineId("here"), EngineId("far")
ONE, TWO = PromptId("one"), PromptId("two")


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def hear(usage: GpuUsage, percent: float) -> None:
    (vram,) = vram_of_engine(card_stats(), HERE)
    usage.hear(sample(busy(percent), engines=[replace(vram, gpu=0)]))


def test_a_run_on_a_local_engine_is_measured_until_it_is_forgotten() -> None:
    clock = Clock()
    usage = GpuUsage(local=[HERE], monotonic=clock)
    usage.begin(ONE, HERE)
    assert usage.running
    clock.now += 2
    hear(usage, 50)
    clock.now += 2
    usage.begin(ONE, HERE)  # told twice: it goes on
    assert usage.use(ONE) == usage.use(ONE) == GpuUse(seconds=2.0, peak_bytes=4 * GIB, held_bytes=3 * GIB)
    usage.forget(ONE)
    assert usage.use(ONE) is None
    assert not usage.running


def test_of_a_remote_engines_run_only_what_its_torch_holds_is_known() -> None:
    """Even if its device looked like one of this machine's."""
    clock = Clock()
    usage = GpuUsage(local=[HERE], monotonic=clock)
    usage.begin(ONE, FAR)
    assert (usage.running, usage.running_here) == (True, False)
    clock.now += 2
    (vram,) = vram_of_engine(card_stats(), FAR)
    usage.hear(sample(busy(50), engines=[replace(vram, gpu=0)]))
    assert usage.use(ONE) == GpuUse(held_bytes=3 * GIB)


def test_what_an_engine_said_before_tells_nothing_of_a_run() -> None:
    clock = Clock()
    usage = GpuUsage(local=[HERE], monotonic=clock)
    usage.begin(ONE, HERE)
    (vram,) = vram_of_engine(card_stats(), HERE)
    shown = sample(busy(50), engines=[replace(vram, gpu=0)])
    usage.hear(shown)  # right after the start: it tells of what was before
    clock.now += 2
    usage.hear(shown, fresh=False)
    assert usage.use(ONE) == GpuUse(seconds=1.0, peak_bytes=4 * GIB)
    usage.hear(shown)
    usage.hear(sample(busy(50), engines=[replace(vram, gpu=0, torch_total_bytes=1)]))
    usage.hear(sample(busy(50), engines=[replace(vram, gpu=0, torch_total_bytes=None)]))
    assert usage.use(ONE) == GpuUse(seconds=1.0, peak_bytes=4 * GIB, held_bytes=3 * GIB)


def test_a_run_whose_gpu_is_not_certain_is_not_measured() -> None:
    clock = Clock()
    usage = GpuUsage(local=[HERE], monotonic=clock)
    usage.begin(ONE, HERE)
    clock.now += 2
    usage.hear(sample(busy(50)))
    assert usage.use(ONE) is None


def test_what_an_engine_had_is_given_up_with_it_and_the_oldest_goes_first() -> None:
    usage = GpuUsage(local=[HERE, FAR])
    usage.begin(ONE, HERE)
    usage.begin(TWO, FAR)
    usage.abandon(HERE)
    assert list(usage._runs) == [TWO]
    usage.abandon(FAR)
    assert not usage.running
    for number in range(MAX_RUNS + 5):
        usage.begin(PromptId(str(number)), HERE)
    assert len(usage._runs) == MAX_RUNS
    assert PromptId("4") not in usage._runs


def test_an_engine_is_local_by_its_address(tmp_path: Path) -> None:
    urls = "a=http://127.0.0.1:8188,b=http://localhost:8189,c=http://[::1]:8190,d=http://gpu-box:8188,e=http://10.0.0.1:1"
    settings = load_settings(engine_urls=urls, state_dir=tmp_path)
    assert local_engines(settings.engines) == {"a", "b", "c"}
