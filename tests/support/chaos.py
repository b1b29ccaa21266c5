"""Faults inside a process, put in from outside the shipped code before it starts.

`python -m tests.support.chaos FAULTS MODULE [ARGUMENT ...]` runs a module; FAULTS is a JSON object
with any of
- `"at"`: `{"target": "module:Class.method", "when": "before", "nth": 1, "signal": "KILL"}`: the process
  signals itself at the n-th call, `before` or `after` it;
- `"line"`: `{"files": ["comfy_mcp/store/…"], "nth": 100}`: at the n-th line that it runs in these files;
- `"raise"`: `{"target": "module:Class.method", "nth": 1, "times": 3}`: calls are counted for each attempt;
  for the first attempt that gets its n-th call, this call and the next ones raise a Defect; with
  `"when": "after"` only when their work is done;
- `"clock"`, `"mood"`: files that say how wrong the wall clock is and what the store refuses (chaos_store.py);
- `"constants"`: `{"QUIET_S": 0.4}`: constants of the product have other values (constants.py);
- `"engine"`: the embedded engine comes as another version (chaos_engine.py);
- `"modes"`: the permissions of files count, for root too.
"""

import functools
import importlib
import inspect
import json
import os
import re
import runpy
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from tests.support import chaos_engine, chaos_store
from tests.support.constants import set_constants


def main(faults: str, module: str, *arguments: str) -> None:
    inject(json.loads(faults))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def inject(faults: dict[str, Any]) -> None:
    if "at" in faults:
        _signal_at(**faults["at"])
    if "line" in faults:
        _signal_at_line(**faults["line"])
    if "raise" in faults:
        _raise_at(**faults["raise"])
    if "clock" in faults:
        chaos_store.bend_clock(Path(faults["clock"]))
    if "mood" in faults:
        chaos_store.follow_mood(Path(faults["mood"]))
    set_constants(faults.get("constants", {}))
    if "engine" in faults:
        chaos_engine.become(**faults["engine"])
    if faults.get("modes"):
        chaos_engine.obey_modes()


def _countdown(nth: int, name: str) -> Callable[[], None]:
    """Signals this process at the n-th call. Callable from any thread."""
    left = iter(range(nth - 1, -1, -1))
    number = signal.Signals[f"SIG{name}"]

    def count() -> None:
        if next(left, -1) == 0:
            os.kill(os.getpid(), number)

    return count


def _signal_at(*, target: str, when: str, nth: int, signal: str = "KILL") -> None:
    module_name, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, importlib.import_module(module_name))
    original = getattr(owner, name)
    count = _countdown(nth, signal)

    def around() -> Iterator[None]:
        if when == "before":
            count()
        yield
        if when == "after":
            count()

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            steps = around()
            next(steps)
            result = await original(*args, **kwargs)
            next(steps, None)
            return result
    else:

        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            steps = around()
            next(steps)
            result = original(*args, **kwargs)
            next(steps, None)
            return result

    setattr(owner, name, wrapped)


class Defect(Exception):
    """Put in on purpose."""


def _raise_at(*, target: str, nth: int, times: int, when: str = "before") -> None:
    module_name, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, importlib.import_module(module_name))
    original = getattr(owner, name)
    calls: Counter[str] = Counter()
    victim: list[str] = []

    def count(values: list[Any]) -> None:
        about = _prompts_of(values)
        calls.update(about)
        if not victim:
            victim.extend(prompt_id for prompt_id in about[:1] if calls[prompt_id] >= nth)
        if victim and victim[0] in about and calls[victim[0]] < nth + times:
            raise Defect(f"put in at {target}, call {calls[victim[0]]}")

    @functools.wraps(original)
    async def in_turn(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            count([*args, *kwargs.values()])
        result = await original(*args, **kwargs)
        if when == "after":
            count([*args, *kwargs.values()])
        return result

    @functools.wraps(original)
    def at_once(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            count([*args, *kwargs.values()])
        result = original(*args, **kwargs)
        if when == "after":
            count([*args, *kwargs.values()])
        return result

    setattr(owner, name, in_turn if inspect.iscoroutinefunction(original) else at_once)


def _prompts_of(values: list[Any]) -> list[str]:
    """The prompts that a call is about: an attempt, a job, an id or a list of ids among its arguments."""
    found = []
    for value in values:
        each = getattr(value, "prompt_id", value)
        found += [each] if isinstance(each, str) else list(each) if isinstance(each, tuple | list) else []
    return [each for each in found if isinstance(each, str) and _UUID.fullmatch(each)]


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _signal_at_line(*, files: list[str], nth: int, signal: str = "KILL") -> None:
    count = _countdown(nth, signal)
    wanted: dict[str, bool] = {}

    def by_line(_frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            count()
        return by_line

    def by_call(frame: FrameType, _event: str, _argument: Any) -> Any:
        name = frame.f_code.co_filename
        if name not in wanted:
            wanted[name] = any(part in name for part in files)
        return by_line if wanted[name] else None

    threading.settrace(by_call)
    sys.settrace(by_call)


if __name__ == "__main__":
    main(*sys.argv[1:])
