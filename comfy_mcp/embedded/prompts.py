"""The queue and the history: what waits, what runs, and what is known of what has run."""

from __future__ import annotations

import heapq
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from comfy_mcp.embedded.execution_log import Note

Json = dict[str, Any]
_SECRETS = frozenset({"api_key_comfy_org", "auth_token_comfy_org"})


class SameNumberAndId(Exception):
    """Two pending prompts share number and id. Both are queued all the same, as in ComfyUI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedPrompt:
    number: float
    prompt_id: str
    prompt: Json
    extra_data: Json
    outputs: list[str]

    @property
    def client_id(self) -> str | None:
        client_id = self.extra_data.get("client_id")
        return client_id if isinstance(client_id, str) else None

    def as_list(self) -> list[Any]:
        """The five elements that /queue and /history show, without secrets."""
        shown = {name: value for name, value in self.extra_data.items() if name not in _SECRETS}
        return [self.number, self.prompt_id, self.prompt, shown, self.outputs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a run ended. messages: (event, data) pairs in the order in which they happened."""

    success: bool
    messages: list[tuple[str, Json]] = field(default_factory=list)
    outputs: Json = field(default_factory=dict)
    meta: Json = field(default_factory=dict)

    @property
    def ending(self) -> str:
        """success, error or interrupted."""
        if self.success:
            return "success"
        last = self.messages[-1][0] if self.messages else ""
        return "interrupted" if last == "execution_interrupted" else "error"

    def as_status(self) -> Json:
        return {
            "status_str": "success" if self.success else "error",
            "completed": self.success,
            "messages": [list(message) for message in self.messages],
        }


_Entry = tuple[float, str, int, QueuedPrompt]


class PromptQueue:
    """Pending prompts in a heap by (number, id), one running, a bounded history. Safe between threads.

    changed: called after every change of the number of prompts; must return at once.
    note: called with every step of a prompt before anything else can know of it.
    interrupt: set for as long as the running prompt is to stop; only this queue sets and clears it, together
    with what runs, so that an interrupt neither gets lost nor hits the next prompt.
    """

    def __init__(
        self,
        history_limit: int,
        changed: Callable[[], None],
        note: Note = lambda _what, _prompt_id: None,
    ) -> None:
        self.interrupt = threading.Event()
        self._history_limit = history_limit
        self._changed = changed
        self._note = note
        self._condition = threading.Condition()
        self._pending: list[_Entry] = []
        self._keys: Counter[tuple[float, str]] = Counter()
        self._running: dict[int, QueuedPrompt] = {}
        self._ended: set[int] = set()
        self._history: OrderedDict[str, Json] = OrderedDict()
        self._serial = 0
        self._closed = False
        self._flags: dict[str, bool] = {}

    def put(self, item: QueuedPrompt) -> None:
        """Queue a prompt. Raises SameNumberAndId, and the prompt is queued even so."""
        with self._condition:
            twin = self._keys[item.number, item.prompt_id] > 0
            self._keys[item.number, item.prompt_id] += 1
            self._serial += 1
            self._note("accepted", item.prompt_id)
            heapq.heappush(self._pending, (item.number, item.prompt_id, self._serial, item))
            self._condition.notify()
        if twin:
            raise SameNumberAndId(item.prompt_id)
        self._changed()

    def take(self) -> QueuedPrompt | None:
        """Wait for the next prompt and mark it as running. None: look at the flags, or at `closed`."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._flags or self._pending)
            if self._closed or self._flags:
                return None
            item = heapq.heappop(self._pending)[3]
            self._drop_key(item)
            self._running[id(item)] = item
            self._note("start", item.prompt_id)
            self.interrupt.clear()
        self._changed()
        return item

    def ending(self, item: QueuedPrompt, what: str) -> None:
        """The end of a running prompt, as `Finished.ending` will say it, before its event is sent."""
        with self._condition:
            if id(item) not in self._ended:
                self._ended.add(id(item))
                self._note(what, item.prompt_id)

    def finish(self, item: QueuedPrompt, finished: Finished) -> None:
        """Move a prompt from running to the history, then announce that the queue has changed."""
        with self._condition:
            self.ending(item, finished.ending)
            self._ended.discard(id(item))
            self._running.pop(id(item), None)
            self._history.pop(item.prompt_id, None)
            while len(self._history) >= self._history_limit:
                self._history.popitem(last=False)
            self._history[item.prompt_id] = {
                "prompt": item.as_list(),
                "outputs": finished.outputs,
                "status": finished.as_status(),
                "meta": finished.meta,
            }
        self._changed()

    @property
    def closed(self) -> bool:
        return self._closed

    def interrupt_running(self, prompt_id: str | None = None) -> bool:
        """Stop what runs, if it is this prompt or if no prompt is named. Whether anything was to stop."""
        with self._condition:
            hit = any(prompt_id in (None, item.prompt_id) for item in self._running.values())
            if hit:
                self.interrupt.set()
            return hit

    def close(self) -> None:
        """End the worker: it starts no prompt any more, and the running one is interrupted."""
        with self._condition:
            self._closed = True
            self.interrupt.set()
            self._condition.notify_all()

    def set_flag(self, name: str) -> None:
        """Ask the worker for something between two prompts."""
        with self._condition:
            self._flags[name] = True
            self._condition.notify_all()

    def take_flags(self) -> set[str]:
        with self._condition:
            flags, self._flags = set(self._flags), {}
            return flags

    @property
    def remaining(self) -> int:
        with self._condition:
            return len(self._pending) + len(self._running)

    def snapshot(self) -> tuple[list[QueuedPrompt], list[QueuedPrompt]]:
        """(running, pending); pending in the order of the heap, which is not the order of the runs."""
        with self._condition:
            return list(self._running.values()), [entry[3] for entry in self._pending]

    def delete(self, prompt_id: str) -> bool:
        """Drop one pending prompt with this id. A running one stays."""
        with self._condition:
            for index, entry in enumerate(self._pending):
                if entry[1] == prompt_id:
                    self._note("deleted", prompt_id)
                    self._drop_key(entry[3])
                    del self._pending[index]
                    heapq.heapify(self._pending)
                    break
            else:
                return False
        self._changed()
        return True

    def clear(self) -> None:
        with self._condition:
            for entry in self._pending:
                self._note("deleted", entry[1])
            self._pending.clear()
            self._keys.clear()
        self._changed()

    def history(self, prompt_id: str | None = None, *, limit: int | None = None, offset: int = -1) -> Json:
        """Entries by id, oldest first. A negative offset with a limit means the newest ones."""
        with self._condition:
            if prompt_id is not None:
                entry = self._history.get(prompt_id)
                return {} if entry is None else {prompt_id: entry}
            ids = list(self._history)
            start = offset
            if start < 0:
                start = max(len(ids) - limit, 0) if limit is not None else 0
            end = len(ids) if limit is None else start + limit
            return {key: self._history[key] for key in ids[start:end]}

    def forget(self, prompt_id: str) -> None:
        with self._condition:
            self._history.pop(prompt_id, None)

    def forget_all(self) -> None:
        with self._condition:
            self._history.clear()

    def _drop_key(self, item: QueuedPrompt) -> None:
        key = (item.number, item.prompt_id)
        self._keys[key] -= 1
        if not self._keys[key]:
            del self._keys[key]
