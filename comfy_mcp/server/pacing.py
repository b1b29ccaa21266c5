"""How often subscribers are notified of one resource: a pure decision on (what changed, when)."""

from collections import deque

WINDOW_S = 1.0
PER_WINDOW = 4
"""Notifications about one URI in any second (issue: at most four a second a job)."""


class Pacing:
    """Coalesces changes by URI. A final change goes at once: one place of the four is kept for it."""

    def __init__(self) -> None:
        self._pending: dict[str, bool] = {}
        self._sent: dict[str, deque[float]] = {}

    def changed(self, uri: str, *, final: bool = False) -> None:
        self._pending[uri] = final or self._pending.get(uri, False)

    def take(self, now: float) -> list[str]:
        """What may be published at `now` (seconds of any steady clock), oldest change first."""
        self._forget(now)
        due = [uri for uri in self._pending if self._due_at(uri) <= now]
        for uri in due:
            del self._pending[uri]
            self._sent.setdefault(uri, deque(maxlen=PER_WINDOW)).append(now)
        return due

    def next_due(self) -> float | None:
        """When something pending may go; None when nothing is pending."""
        return min((self._due_at(uri) for uri in self._pending), default=None)

    def _due_at(self, uri: str) -> float:
        allowed = PER_WINDOW if self._pending[uri] else PER_WINDOW - 1
        sent = self._sent.get(uri)
        if sent is None or len(sent) < allowed:
            return float("-inf")
        return sent[-allowed] + WINDOW_S

    def _forget(self, now: float) -> None:
        # Finished jobs never come back, so nothing may be kept for good.
        for uri in [uri for uri, sent in self._sent.items() if sent[-1] + WINDOW_S <= now]:
            del self._sent[uri]
