"""Jobs in two phases on four engines, while bridges are ended and follow each other: none is lost."""

import signal
from pathlib import Path

import pytest

from tests.fleet.story import Plan, tell
from tests.support import postgres


@pytest.mark.parametrize("on", ["sqlite", "postgresql"])
async def test_bridges_that_are_killed_again_and_again_lose_no_job_and_keep_the_order(
    tmp_path: Path, on: str
) -> None:
    url = postgres.shared().database() if on == "postgresql" else None
    told = await tell(tmp_path, Plan(jobs=120, ends=3, url=url, seconds=0.02))
    assert (told.ended, told.exits) == (3, {-signal.SIGKILL})
    assert (told.submitted, told.lost) == (120, 0)
    assert told.runs == 120  # what was claimed and not sent yet is claimed again, and runs once
    assert (told.early, told.overtaken) == (0, 0)


async def test_a_rolling_restart_of_two_bridges_under_load_loses_nothing(tmp_path: Path) -> None:
    plan = Plan(
        jobs=120, ends=4, bridges=2, how=signal.SIGTERM, url=postgres.shared().database(), seconds=0.02
    )
    told = await tell(tmp_path, plan)
    assert (told.ended, told.exits) == (4, {0})
    assert (told.submitted, told.lost) == (120, 0)
    assert told.runs == 120
    assert told.early == 0
