"""How long nodes took in the past: the weights of progress, learnt by class_type."""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

SAVE_AT = 256
"""Observations of one class_type that are worth a write while there is work; more of them are dropped, for
they are hints, not records."""


SAVE_S = 5.0
"""Between two writes while engines are idle: those of a fleet become idle all the time."""


KEPT = 20_000
"""Keys that are remembered, some 8 MB: clients choose them, by their models and sizes. Beyond it all go."""


class DurationStore(Protocol):
    async def node_durations(self, class_types: Collection[str]) -> Mapping[str, float]: ...
    async def observe_durations(self, observed: Mapping[str, list[float]]) -> None: ...


class Durations:
    """A process's cache in front of the store. Observations are written now and then, never while a job
    waits."""

    def __init__(self, store: DurationStore, now: Callable[[], float]) -> None:
        """`now` in monotonic seconds."""
        self._store = store
        self._now = now
        self._saved_at = float("-inf")
        self._known: dict[str, float] = {}
        self._asked: set[str] = set()
        self._observed: dict[str, list[float]] = {}
        self.full = False
        """As many were observed as are kept."""

    async def known(self, class_types: Collection[str]) -> Mapping[str, float]:
        """Mean milliseconds of those class_types that have run before. Raises StoreFault."""
        while (known := self.known_now(class_types)) is None:
            if len(self._asked) > KEPT:
                self._known.clear()
                self._asked.clear()
            new = set(class_types) - self._asked
            self._known.update(await self._store.node_durations(new))
            self._asked |= new
        return known

    def known_now(self, class_types: Collection[str]) -> Mapping[str, float] | None:
        """The same without asking the store; None where it has to be asked."""
        if not self._asked.issuperset(class_types):
            return None
        return {name: self._known[name] for name in class_types if name in self._known}

    def observe(self, observed: Mapping[str, list[float]]) -> None:
        for name, durations in observed.items():
            kept = self._observed.setdefault(name, [])
            kept.extend(durations[: SAVE_AT - len(kept)])
            self.full = self.full or len(kept) >= SAVE_AT

    @property
    def old(self) -> bool:
        """They were not written just now."""
        return self._now() - self._saved_at >= SAVE_S

    async def save(self) -> None:
        """Write what was observed and read it back, so that no job has to wait for it. Raises StoreFault."""
        if not self._observed:
            return
        self._saved_at = self._now()
        observed, self._observed, self.full = self._observed, {}, False
        await self._store.observe_durations(observed)
        self._known.update(await self._store.node_durations(observed.keys()))
        self._asked |= observed.keys()
