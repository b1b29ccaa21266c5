"""Real engines of speeds 1:2:8 share the work as their speeds are."""

from collections import Counter

from tests.fleet.conftest import Open
from tests.support.graphs import slow

SPEEDS = {"slow": 1.0, "middle": 2.0, "fast": 8.0}


async def test_unequal_engines_get_their_shares(open_fleet: Open) -> None:
    """Counted, for the machine may be busy. Of 44 equal jobs the best plan gives 4, 8 and 32; where what the
    bridge itself does takes longer than a job, they come closer to each other."""
    options = {name: {"speed": speed} for name, speed in SPEEDS.items()}
    async with open_fleet(**options) as fleet:
        await fleet.connected()
        batch = await fleet("submit_workflow", workflow=slow(steps=8, step_ms=100), variations=44)
        await fleet.end(batch.workflow_id)
        jobs = [await fleet("workflow_status", workflow_id=job) for job in batch.workflow_ids]
        assert {job.status for job in jobs} == {"completed"}
        counts = Counter(job.engine for job in jobs)
        first, last = min(job.start_time for job in jobs), max(job.completion_time for job in jobs)
        ideal = 44 * 800 / sum(SPEEDS.values())
        print(f"makespan {last - first} ms, {(last - first) / ideal:.2f} of the best plan; {dict(counts)}")
        assert counts["slow"] < 44 / 3 < counts["fast"]
        assert {job.attempt for job in jobs} == {1}
