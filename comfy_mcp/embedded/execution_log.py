"""What the engine did with each prompt, on disk before it is announced: for tests that kill processes.

One JSON line per step, `{"at", "pid", "prompt_id", "what"}`: `at` in epoch milliseconds; `what` is accepted,
start, success, error, interrupted or deleted. The end is written before its event is sent and before the
history has its entry, so a prompt that anybody knows to have ended has its end here.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

Note = Callable[[str, str], None]
"""Called with `what` and the prompt_id."""


def open_execution_log(path: Path | None) -> Note:
    """Appends to the file at `path`, each line by one write(2): kill -9 tears none. Without a path a no-op.

    Raises OSError. The file stays open for the life of the process.
    """
    if path is None:
        return lambda _what, _prompt_id: None
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    pid = os.getpid()

    def note(what: str, prompt_id: str) -> None:
        line = {"at": time.time_ns() // 1_000_000, "pid": pid, "prompt_id": prompt_id, "what": what}
        os.write(descriptor, json.dumps(line).encode() + b"\n")

    return note
