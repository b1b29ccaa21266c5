"""Starts ComfyUI with the embedded engine's execution log: `python logged_comfyui.py LOG MAIN_PY ARGUMENTS`.

Runs in ComfyUI's own environment, so the standard library only. Each step of its PromptQueue is on disk
before it is done, and each end before it is told; comfy_mcp/embedded/execution_log.py says what is in a line.
ComfyUI itself is as it is.
"""

import importlib.abc
import importlib.machinery
import json
import os
import runpy
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

ENDINGS = {
    "execution_success": "success",
    "execution_error": "error",
    "execution_interrupted": "interrupted",
}


def main(log: str, program: str, *arguments: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(what: str, prompt_id: str) -> None:
        line = {"at": time.time_ns() // 1_000_000, "pid": os.getpid(), "prompt_id": prompt_id, "what": what}
        os.write(descriptor, json.dumps(line).encode() + b"\n")

    sys.meta_path.insert(0, _Finder(note))
    sys.path.insert(0, os.path.dirname(program))  # noqa: PTH120 - as Python does for a script
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the ordinary finder find `execution`, and patches it once it has run."""

    def __init__(self, note: Any) -> None:
        self._note = note

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name != "execution":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = spec.loader if spec is not None else None
        run = loader.exec_module

        def run_and_patch(module: ModuleType) -> None:
            run(module)
            _patch(module, self._note)

        loader.exec_module = run_and_patch
        return spec


def _patch(execution: Any, note: Any) -> None:
    queue = execution.PromptQueue
    put, get, task_done, wipe = queue.put, queue.get, queue.task_done, queue.wipe_queue
    delete = queue.delete_queue_item
    add_message = execution.PromptExecutor.add_message
    ended: set[str] = set()

    def noted_put(self: Any, item: Any) -> None:
        note("accepted", item[1])
        put(self, item)

    def noted_get(self: Any, timeout: float | None = None) -> Any:
        with self.mutex:  # re-entrant: nobody sees it as running before the note is written
            taken = get(self, timeout)
            if taken is not None:
                note("start", taken[0][1])
            return taken

    def noted_done(self: Any, item_id: int, result: Any, status: Any, *rest: Any, **more: Any) -> None:
        with self.mutex:
            messages = [] if status is None else status.messages
            interrupted = any(message[0] == "execution_interrupted" for message in messages)
            good = status is not None and status.completed
            ending = "success" if good else "interrupted" if interrupted else "error"
            prompt_id = self.currently_running[item_id][1]
            if prompt_id not in ended:
                note(ending, prompt_id)
            ended.discard(prompt_id)
            task_done(self, item_id, result, status, *rest, **more)

    def noted_message(self: Any, event: str, data: Any, broadcast: bool) -> None:
        if event in ENDINGS:  # before anybody hears of it
            ended.add(data["prompt_id"])
            note(ENDINGS[event], data["prompt_id"])
        add_message(self, event, data, broadcast)

    def noted_wipe(self: Any) -> None:
        with self.mutex:
            for item in self.queue:
                note("deleted", item[1])
            wipe(self)

    def noted_delete(self: Any, function: Any) -> bool:
        with self.mutex:
            found = [item[1] for item in self.queue if function(item)][:1]
            if found and len(self.queue) > 1:  # the last one goes by wipe_queue, which notes it
                note("deleted", found[0])
            return bool(delete(self, function))

    queue.put, queue.get, queue.task_done = noted_put, noted_get, noted_done
    execution.PromptExecutor.add_message = noted_message
    queue.wipe_queue, queue.delete_queue_item = noted_wipe, noted_delete


if __name__ == "__main__":
    main(*sys.argv[1:])
