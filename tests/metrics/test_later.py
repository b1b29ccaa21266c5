"""What is counted later is counted once, before anybody reads it, and never waits without a bound."""

import pytest
from prometheus_client import CollectorRegistry, Counter

from comfy_mcp.metrics.later import MOST, Later


@pytest.mark.parametrize("times", [0, 1, MOST - 1, MOST, 2 * MOST + 1])
def test_whoever_reads_finds_all_that_has_happened(times: int) -> None:
    registry, later = CollectorRegistry(), Later()
    registry.register(later)
    counter = Counter("things", "Things.", registry=registry)
    for _ in range(times):
        later.add(counter.inc, 2)
    for _ in range(2):
        assert registry.get_sample_value("things_total") == 2 * times


def test_what_nobody_reads_is_counted_some_at_a_time() -> None:
    later = Later()
    counted: list[float] = []
    for number in range(MOST + 1):
        later.add(counted.append, number)
    assert counted == [*range(MOST)]
