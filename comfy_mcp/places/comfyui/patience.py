"""What people and agents ask of an engine: they wait a bounded time, however slow the engine is.

A caller waits ASK_S for an engine that says nothing at all. The question goes on, and its answer is there for
the next caller: so a slow engine is understood in the end, and one that hangs costs few callers some time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.errors import EngineUnreachable
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.places.comfyui.contact import Contact
from comfy_mcp.places.protocol import ASK_S, NotAnswered, advice_for

LONGEST_S = 10.0
"""Of one wait, while the engine says other things."""

LATE_S = 30.0
"""An answer that came when nobody waited is good for this long."""

QUESTIONS = 32
"""At once, and late answers that are kept."""

T = TypeVar("T")


class Patience:
    """Of one engine. Owns what it has begun; `close` ends it."""

    def __init__(
        self, engine: EngineId, contact: Contact, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._contact = contact
        self._clock = clock
        self._asked: dict[Hashable, asyncio.Task[Any]] = {}
        self._left: set[Hashable] = set()
        self._late: Bounded[Hashable, tuple[float, Any]] = Bounded(QUESTIONS)

    async def ask(
        self,
        key: Hashable,
        question: Callable[[], Awaitable[T]],
        *,
        keep: bool = True,
        patience_s: float = ASK_S,
    ) -> T:
        """The answer; the one to the same question, if that is asked already. Not `keep`: a late one is only
        wanted for what it leaves behind.

        Raises NotAnswered where the engine says nothing for `patience_s`, this question's time included, and
        what the question raises.
        """
        at, late = self._late.pop(key, (0.0, None))
        if late is not None and self._clock() - at < LATE_S:
            answer: T = late
            return answer
        task = self._asked.get(key) or self._begin(key, question, keep)
        began = self._clock()
        while not task.done():
            left = min(patience_s - self._contact.unanswered_s(), LONGEST_S - (self._clock() - began))
            if left <= 0:
                self._left.add(key)
                raise self._not_answered()
            await asyncio.wait({task}, timeout=left)
        if task.cancelled():  # by `close`: nobody has cancelled whoever asks
            raise EngineUnreachable(
                f"Engine {self._engine} was removed, or its settings have changed.", next_step="Try again."
            )
        done: T = task.result()
        return done

    async def close(self) -> None:
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self, key: Hashable, question: Callable[[], Awaitable[T]], keep: bool) -> "asyncio.Task[Any]":
        if len(self._asked) >= QUESTIONS:
            raise self._not_answered()

        async def asking() -> T:
            return await question()

        def over(task: "asyncio.Task[Any]") -> None:
            self._asked.pop(key, None)
            unheard = key in self._left
            self._left.discard(key)
            if not task.cancelled() and task.exception() is None and unheard and keep:
                self._late[key] = self._clock(), task.result()

        task = self._asked[key] = asyncio.get_running_loop().create_task(asking(), name=f"ask {key}")
        task.add_done_callback(over)
        return task

    def _not_answered(self) -> EngineUnreachable:
        waited = max(ASK_S, self._contact.unanswered_s())
        return NotAnswered(
            f"Engine {self._engine} has not answered for {waited:.0f} s.",
            next_step=advice_for(waited),
        )
