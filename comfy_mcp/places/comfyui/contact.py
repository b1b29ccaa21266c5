"""Whether the engine answers: what was last received, and what waits for an answer."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from comfy_mcp.domain.errors import EngineFault, EngineUnreachable
from comfy_mcp.places.comfyui.faults import TooSlow
from comfy_mcp.places.protocol import Silence

PATIENCE_S = 5.0
"""A request may wait this long before the engine counts as silent: ComfyUI is slow while it loads a model."""


class Contact:
    """Of one engine, by every request and frame of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._received_at: float | None = None
        self._failed_at: float | None = None
        self._failing_since: float | None = None
        self._cause: str | None = None
        self._accepts = True
        self._waiting: dict[object, float] = {}

    def received(self) -> None:
        """A response or a frame arrived."""
        self._received_at = self._clock()
        self._failing_since = self._failed_at = self._cause = None
        self._accepts = True

    @contextmanager
    def asking(self) -> Iterator[None]:
        """A request, from its start to the head of its response."""
        token, began = object(), self._clock()
        self._waiting[token] = began
        try:
            yield
        except EngineUnreachable as fault:
            self._failed(began, fault.sentence, accepts=isinstance(fault, TooSlow))
            raise
        except EngineFault:
            self.received()  # something answered, whatever it is
            raise
        except BaseException:
            waited = self._clock() - began
            if waited >= 1:  # the caller gave up, after a time in which an engine answers
                self._failed(began, f"No answer within {waited:.0f} s.", accepts=True)
            raise
        else:
            self.received()
        finally:
            del self._waiting[token]

    def age(self) -> float | None:
        """Seconds since it was last known whether the engine answers. None: never."""
        known = [at for at in (self._received_at, self._failed_at) if at is not None]
        return self._clock() - max(known) if known else None

    def heard_within(self, seconds: float) -> bool:
        """Whether something was received in that time."""
        return self._received_at is not None and self._clock() - self._received_at < seconds

    def unanswered_s(self) -> float:
        """For how long a request waits while nothing at all is received; 0: none does."""
        received = float("-inf") if self._received_at is None else self._received_at
        return max((self._clock() - max(began, received) for began in self._waiting.values()), default=0.0)

    def silence(self) -> Silence | None:
        """None: it answers, as far as is known."""
        now = self._clock()
        heard = float("-inf") if self._received_at is None else self._received_at
        waits = [began for began in self._waiting.values() if now - max(began, heard) >= PATIENCE_S]
        if self._failing_since is None and not waits:
            return None
        since = min([*waits, now if self._failing_since is None else self._failing_since])
        if self._received_at is not None:
            since = self._received_at
        return Silence(seconds=now - since, cause=self._cause, accepts=self._accepts)

    def _failed(self, began: float, cause: str, *, accepts: bool) -> None:
        self._failed_at, self._cause, self._accepts = self._clock(), cause, accepts
        self._failing_since = began if self._failing_since is None else self._failing_since
