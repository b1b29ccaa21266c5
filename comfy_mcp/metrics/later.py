"""What is counted with every request: put together, because one by one it costs several times as much."""

from collections.abc import Callable, Iterable

from prometheus_client import Metric
from prometheus_client.registry import Collector

MOST = 256
"""What waits at most. To count these takes half a millisecond."""


class Later(Collector):
    """Registered before everything else: whoever reads the registry finds what has happened until then."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[float], None], float]] = []

    def add(self, count: Callable[[float], None], amount: float) -> None:
        """Call `count` with `amount`, some time before anybody reads."""
        self._waiting.append((count, amount))
        if len(self._waiting) >= MOST:
            self.collect()

    def collect(self) -> Iterable[Metric]:
        waiting, self._waiting = self._waiting, []
        for count, amount in waiting:
            count(amount)
        return ()
