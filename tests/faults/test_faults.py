"""The product under faults; `make faults N=1000 SEED=7` is the same for longer, or for one seed."""

from pathlib import Path

import pytest

from tests.faults.engines import comfyui_engines
from tests.faults.harness import REAL_KINDS, complaint, run_trials, table
from tests.faults.kinds import KINDS, OF_A_SERVER
from tests.faults.trial import Result

TRIALS = 200
ON_POSTGRESQL = 60
OF_A_FLEET = 4
ON_COMFYUI = range(1, len(REAL_KINDS), 2)
LIMIT_S = 900
"""For a machine with two slow cores; 200 trials take two minutes on two fast ones."""


@pytest.mark.timeout(LIMIT_S)
async def test_each_kind_of_fault_once(tmp_path: Path) -> None:
    judge(await run_trials(tmp_path, range(len(KINDS)), seed=100_000), len(KINDS))


@pytest.mark.timeout(LIMIT_S)
async def test_each_fault_of_a_database_server_once(tmp_path: Path) -> None:
    wanted = len(OF_A_SERVER)
    results = await run_trials(tmp_path, range(wanted), store="postgresql", kinds=OF_A_SERVER, at_once=3)
    judge(results, wanted, store="postgresql")


@pytest.mark.timeout(LIMIT_S)
async def test_a_fleet_of_three_bridges_and_five_engines(tmp_path: Path) -> None:
    results = await run_trials(tmp_path, range(OF_A_FLEET), seed=7, store="postgresql", fleet=True, at_once=2)
    judge(results, OF_A_FLEET, store="postgresql", fleet=True)


@pytest.mark.faults
@pytest.mark.timeout(LIMIT_S)
async def test_the_same_holds_with_the_jobs_in_postgresql(tmp_path: Path) -> None:
    judge(
        await run_trials(tmp_path, range(ON_POSTGRESQL), store="postgresql"),
        ON_POSTGRESQL,
        store="postgresql",
    )


@pytest.mark.faults
@pytest.mark.timeout(LIMIT_S)
async def test_whatever_dies_the_state_of_every_job_is_true(tmp_path: Path) -> None:
    judge(await run_trials(tmp_path, range(TRIALS)), TRIALS)


@pytest.mark.live
@pytest.mark.faults
@pytest.mark.timeout(LIMIT_S)
async def test_the_same_holds_on_the_real_comfyui(tmp_path: Path) -> None:
    results = await run_trials(tmp_path, ON_COMFYUI, at_once=1, engines=comfyui_engines, kinds=REAL_KINDS)
    judge(results, len(ON_COMFYUI), "comfyui")


def judge(
    results: list[Result],
    wanted: int,
    engine: str = "embedded",
    store: str = "sqlite",
    *,
    fleet: bool = False,
) -> None:
    print("\n".join(table(results)))
    bad = [result for result in results if result.outcome.violations]
    complaints = [complaint(result, engine, store, fleet=fleet) for result in bad]
    assert not complaints, "\n".join(complaints)
    assert len(results) == wanted
    assert sum(sum(result.outcome.states.values()) for result in results) >= wanted, "jobs were run at all"
