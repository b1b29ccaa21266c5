"""The time left, judged on recorded runs: nothing here depends on the machine that replays them."""

from pathlib import Path

import pytest

from bench.processes import Run
from bench.time_left import RUNS, Look, measure_time_left, read

WORST = 35.0
"""Per cent. The aim of the bench is less: the machine of these runs did much else meanwhile."""


async def test_the_time_left_of_recorded_runs_has_not_become_worse(tmp_path: Path) -> None:
    (section,) = await measure_time_left(Run(folder=tmp_path))
    *medians, misleading = section.aims
    assert len(medians) == 3
    assert [aim for aim in medians if aim.value > WORST] == []
    assert misleading.met


def test_the_record_has_what_people_run() -> None:
    recorded = list(read(RUNS))
    assert len(recorded) >= 50
    for kind in ("two passes", "upscale", "animation", "2 at once"):
        assert any(kind in each.what for each in recorded)
    assert all(each.events[0][0] == 0 < each.events[-1][0] for each in recorded)


@pytest.mark.parametrize(
    ("said", "left", "off", "in_range", "misleads"),
    [
        (8_000, 10_000, 20.0, True, False),
        (20_000, 10_000, 100.0, False, False),
        (None, 90_000, None, False, False),
        (2_000, 90_000, 100 * 88 / 90, False, True),
    ],
)
def test_a_look_is_judged_by_what_was_left(
    said: int | None, left: int, off: float | None, in_range: bool, misleads: bool
) -> None:
    look = Look(said=said, left=left)
    assert look.off == pytest.approx(off)
    assert (look.in_range, look.misleads) == (in_range, misleads)
