"""Nothing grows with the number of jobs; `make soak` is the same with 10,000."""

from pathlib import Path

import pytest

from tests.faults.course import SUBSCRIBERS
from tests.faults.soak import RECONNECTS, run_soak
from tests.faults.soak_report import table

JOBS, ROUNDS = 720, 12
KINDS_OF_SUBSCRIBERS = 7
LIMIT_S = 900
"""For a machine with two slow cores that others use too; a minute on two fast ones."""


@pytest.mark.faults
@pytest.mark.timeout(LIMIT_S)
async def test_jobs_subscribers_and_reconnects_leave_nothing_behind(tmp_path: Path) -> None:
    soak = await run_soak(tmp_path, JOBS, rounds=ROUNDS)
    assert soak.violations == []
    print("\n".join(table(soak)))
    assert [name for name, verdict in soak.verdicts().items() if not verdict.flat] == []
    assert soak.jobs == soak.states.total() == JOBS + JOBS // ROUNDS
    assert soak.reconnects >= RECONNECTS
    assert soak.most_streams > SUBSCRIBERS / 2
    assert len(soak.visits) == KINDS_OF_SUBSCRIBERS
    assert all(soak.visits.values())
