"""The benchmark runs, and writes down what it measured. Nothing here asserts how fast anything is."""

import re
from pathlib import Path

import pytest

from bench.__main__ import PARTS, main
from bench.report import as_markdown, as_text, verdict
from bench.stats import Aim, Sample, Section, percentile, ratio, row

ROWS = {
    "jobs": ("one job, bare", "one job", "5 queued, bare", "5 queued"),
    "http-jobs": (
        "~0 ms, 1 in flight, bare",
        "~0 ms, 1 in flight",
        "~0 ms, 8 in flight",
        "~0 ms, 32 in flight",
        "~0 ms, 100 in flight",
        "20 ms, 8 in flight, bare",
    ),
    "requests": ("bare aiohttp, GET", "GET workflow", "POST workflow, durable"),
    "files": (
        "from the engine itself",
        "sidecar, from the engine over HTTP",
        "sidecar, from the engine's folder",
    ),
    "lag": (
        "bare WebSocket, 2 clients",
        "WebSocket, 3 clients",
        "Server-Sent Events, 3 clients",
        "MCP listen, 3 clients",
    ),
    "startup": (
        "no-op server",
        "comfy-bridge mcp",
        "after the handshake",
        "runtime open",
        "tools and instructions, as a model sees them",
        "tools/list, whole",
    ),
    "tools": ("no-op, SDK client", "status, SDK client", "submit, SDK client", "submit, bare pipe"),
    "store": ("add_job", "claim_next", "record", "jobs, 4 processes"),
    "depth": ("add_job, empty", "claim_next, empty", "claim_next, 50 queued of 100 clients"),
    "fleet": ("8 engines, 16 jobs, all queued at once",),
    "time-left": ("ComfyUI 0.3.75", "ComfyUI 0.33.0", "ComfyUI 0.33.0, 60 times slower"),
}


def test_every_part_of_the_bench_has_its_rows_checked_here() -> None:
    assert set(ROWS) == set(PARTS)


@pytest.mark.parametrize("part", ROWS)
def test_a_quick_run_of_a_part_writes_its_table_with_its_numbers(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "performance.md"

    assert main(["--quick", "--engine", "embedded", "--only", part, "--output", str(report)]) == 0

    text = report.read_text(encoding="utf-8")
    for name in ROWS[part]:
        numbers = numbers_of(text, name)
        assert numbers, name
        assert all(number > 0 for number in numbers), (name, numbers)
    assert text.index("## Aims") < min(text.index(f"| {name} |") for name in ROWS[part])
    assert str(report) in capsys.readouterr().out


def test_a_report_names_no_machine_address_and_no_folder_of_the_run(tmp_path: Path) -> None:
    sample = Sample(name="a", values=[1.0])
    section = Section(title="T", note="N.", columns=("what", "n"), rows=(("a", "1"),))
    text = as_markdown([section], date="2026-11-24", findings="")
    assert re.search(r"\d+ cores", text)
    assert not re.search(r"\d+\.\d+\.\d+\.\d+|/home/|/tmp/", text)
    assert row(sample) == ("a", "1", "1.00", "1.00", "—", "—")


def test_percentiles_lie_between_the_nearest_values() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 0) == 1
    assert percentile(values, 50) == 50.5
    assert percentile(values, 99) == pytest.approx(99.01)
    assert percentile([7.0], 99) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_a_ratio_is_one_of_medians_and_ignores_an_outlier() -> None:
    base = Sample(name="base", values=[2.0, 2.0, 900.0])
    other = Sample(name="other", values=[3.0, 3.0, 3.0])
    assert ratio(other, base) == 1.5
    assert row(other, base)[-2:] == ("+1.00", "1.50")


async def test_a_sample_notes_a_time_for_each_piece_of_work_and_gives_its_result() -> None:
    sample = Sample(name="work")

    async def work() -> str:
        return "done"

    assert await sample.time(work) == "done"
    assert len(sample.values) == 1
    assert sample.values[0] >= 0


def test_what_falls_short_is_said_and_what_is_met_is_not() -> None:
    short = Aim(what="slow thing", value=2.0, limit=1.0, unit="s")
    met = Aim(what="fast thing", value=1.0, limit=1.0, unit="s")
    section = Section(title="T", note="N.", columns=("what",), rows=(("a",),), aims=(short, met))
    assert "slow thing: 2.00 s" in verdict([section])
    assert "fast thing" not in verdict([section])
    assert "FALLS SHORT" in as_text([section])
    only_met = Section(title="T", note="N.", columns=("what",), rows=(("a",),), aims=(met,))
    assert verdict([only_met]) == "Every aim is met."


def numbers_of(text: str, name: str) -> list[float]:
    """Those in the cells of the first row that is called so."""
    (line, *_) = [line for line in text.splitlines() if line.startswith(f"| {name} |")] or [""]
    cells = [cell.strip() for cell in line.split("|")[2:4]]
    found = [re.match(r"\d+(\.\d+)?", cell) for cell in cells]
    return [float(match[0]) for match in found if match]
