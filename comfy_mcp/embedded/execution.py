"""Runs prompts, one after the other, in one worker thread."""

from __future__ import annotations

import logging
import secrets
import string
import traceback
from collections.abc import Mapping
from functools import partial
from typing import Any

from PIL import Image

from comfy_mcp.embedded.cache import CachedResult, OutputCache, is_link, signatures
from comfy_mcp.embedded.config import EngineConfig
from comfy_mcp.embedded.directories import Directories
from comfy_mcp.embedded.nodes import NodeType
from comfy_mcp.embedded.nodes.base import Interrupted, NodeFailure, NodeResult
from comfy_mcp.embedded.prompts import Finished, PromptQueue, QueuedPrompt
from comfy_mcp.embedded.reporter import RunReporter
from comfy_mcp.embedded.schedule import Schedule
from comfy_mcp.embedded.sockets import SocketHub

Json = dict[str, Any]
_log = logging.getLogger(__name__)


class Worker:
    """The thread's body and what it shares with the event loop: the queue, the hub, the interrupt."""

    def __init__(
        self,
        config: EngineConfig,
        directories: Directories,
        nodes: Mapping[str, NodeType],
        queue: PromptQueue,
        hub: SocketHub,
    ) -> None:
        self.config = config
        self.directories = directories
        self.nodes = nodes
        self.interrupt = queue.interrupt
        self.temp_suffix = "".join(secrets.choice(string.ascii_lowercase) for _ in range(5))
        self.cache = OutputCache(config.cache_pixels)
        self.loaded_model: str | None = None
        self.just_freed = False  # since the last prompt
        self._queue = queue
        self._hub = hub

    def loop(self) -> None:
        """Run until the queue is closed."""
        while not self._queue.closed:
            item = self._queue.take()
            if item is None:
                if "free_memory" in self._queue.take_flags():
                    self.cache.clear()
                    self.just_freed = True
                    self.loaded_model = None
                continue
            finished = self._run(item)
            self.just_freed = False
            self._queue.finish(item, finished)
            # The history has the entry before this last event of the prompt is sent: clients rely on it.
            if item.client_id is not None:
                self._hub.send("executing", {"node": None, "prompt_id": item.prompt_id}, item.client_id)

    def check_interrupt(self) -> None:
        if self.interrupt.is_set():
            raise Interrupted

    def _run(self, item: QueuedPrompt) -> Finished:
        reporter = RunReporter(self._hub, item, self.config.preview_size, partial(self._queue.ending, item))
        try:
            return PromptRun(self, item, reporter).run()
        except Exception:  # noqa: BLE001 - one bad prompt must not end the only worker
            _log.exception("The engine failed while it ran prompt %s.", item.prompt_id)
            return Finished(success=False, messages=reporter.messages)
        finally:
            self._hub.set_executing(None, None)


class PromptRun:
    """One prompt from `execution_start` to its end."""

    def __init__(self, worker: Worker, item: QueuedPrompt, reporter: RunReporter) -> None:
        self._worker = worker
        self._item = item
        self._reporter = reporter
        self._keys: dict[str, str] = {}
        self._made: dict[str, NodeResult] = {}
        self._executed: list[str] = []
        self._outputs: Json = {}
        self._meta: Json = {}

    def run(self) -> Finished:
        worker, prompt = self._worker, self._item.prompt
        self._reporter.note("execution_start", {})
        self._keys = signatures(prompt, worker.nodes, worker.directories)
        worker.cache.keep_only(set(self._keys.values()))
        cached = [node_id for node_id in prompt if self._cached(node_id) is not None]
        self._reporter.note("execution_cached", {"nodes": cached})
        schedule = Schedule(prompt, self._item.outputs, set(cached))
        success = True
        while success and (node_id := schedule.next()) is not None:
            success = self._execute(node_id)
            schedule.done(node_id)
        if success:
            self._reporter.note("execution_success", {})
        return Finished(
            success=success, messages=self._reporter.messages, outputs=self._outputs, meta=self._meta
        )

    def _execute(self, node_id: str) -> bool:
        """Run one node, or take over its cached result. Whether the prompt goes on."""
        cached = self._cached(node_id)
        if cached is not None:
            self._made[node_id] = cached.result
            self._show(node_id, cached.result, made_by=cached.made_by)
            self._reporter.executed(node_id, _output(cached.result))
            self._reporter.finish(node_id)
            return True
        self._reporter.start(node_id)
        self._reporter.executing(node_id)
        inputs: Json = {}
        try:
            self._worker.check_interrupt()
            inputs = self._inputs_of(node_id)
            context = NodeContext(self._worker, self._reporter, self._item, node_id)
            result = self._node(node_id).run(context, inputs)
        except Interrupted:
            self._reporter.note("execution_interrupted", self._place(node_id), to_all=True)
            return False
        except Exception as error:  # noqa: BLE001 - whatever a node raises is the result of the prompt
            failure = self._failure(error, inputs | self._hidden_of(node_id))
            self._reporter.note("execution_error", self._place(node_id) | failure)
            return False
        self._made[node_id] = result
        if (key := self._keys.get(node_id)) is not None:
            self._worker.cache.put(key, CachedResult(result, node_id))
        self._show(node_id, result, made_by=node_id)
        if result.ui is not None:
            self._reporter.executed(node_id, _output(result))
        self._reporter.finish(node_id)
        self._executed.append(node_id)
        return True

    def _cached(self, node_id: str) -> CachedResult | None:
        key = self._keys.get(node_id)
        return None if key is None else self._worker.cache.get(key)

    def _node(self, node_id: str) -> NodeType:
        return self._worker.nodes[self._item.prompt[node_id]["class_type"]]

    def _inputs_of(self, node_id: str) -> Json:
        """Literals as they are, links replaced by what the other node made."""
        given = self._item.prompt[node_id]["inputs"]
        values: Json = {}
        for name in self._node(node_id).inputs(self._worker.directories).declared():
            if name in given:
                value = given[name]
                values[name] = self._result_of(value[0]).values[value[1]] if is_link(value) else value
        return values

    def _hidden_of(self, node_id: str) -> Json:
        wanted = self._node(node_id).inputs(self._worker.directories).hidden or {}
        extra_pnginfo = self._item.extra_data.get("extra_pnginfo")
        known = {"PROMPT": self._item.prompt, "EXTRA_PNGINFO": extra_pnginfo}
        return {name: known[kind] for name, kind in wanted.items() if kind in known}

    def _result_of(self, node_id: str) -> NodeResult:
        """What a node that ran, or was cached, has made; the schedule puts it before those that ask."""
        if node_id not in self._made:
            cached = self._cached(node_id)
            assert cached is not None
            self._made[node_id] = cached.result
        return self._made[node_id]

    def _show(self, node_id: str, result: NodeResult, *, made_by: str) -> None:
        """Record what a node shows. The meta data keep the id of the node that made it, as in ComfyUI."""
        if result.ui is not None:
            self._outputs[node_id] = dict(result.ui)
            self._meta[node_id] = {
                "node_id": made_by,
                "display_node": made_by,
                "parent_node": None,
                "real_node_id": made_by,
            }

    def _place(self, node_id: str) -> Json:
        class_type = self._item.prompt[node_id]["class_type"]
        return {"node_id": node_id, "node_type": class_type, "executed": list(self._executed)}

    def _failure(self, error: Exception, inputs: Json) -> Json:
        return {
            "exception_message": f"{error}\n",
            "exception_type": error.kind if isinstance(error, NodeFailure) else _type_name(error),
            "traceback": traceback.format_tb(error.__traceback__),
            "current_inputs": {name: [_shown(value)] for name, value in inputs.items()},
            "current_outputs": list(self._item.prompt),
        }


class NodeContext:
    """What a running node sees of the engine."""

    def __init__(self, worker: Worker, reporter: RunReporter, item: QueuedPrompt, node_id: str) -> None:
        self.directories = worker.directories
        self.config = worker.config
        self.temp_suffix = worker.temp_suffix
        self.just_freed = worker.just_freed
        self.prompt: Mapping[str, Any] = item.prompt
        extra = item.extra_data.get("extra_pnginfo")
        self.extra_pnginfo: Mapping[str, Any] | None = extra if isinstance(extra, dict) else None
        self._worker = worker
        self._reporter = reporter
        self._node_id = node_id

    def progress(self, value: int, maximum: int, preview: Image.Image | None = None) -> None:
        self._worker.check_interrupt()
        self._reporter.step(self._node_id, value, maximum, preview)

    def wait(self, seconds: float) -> None:
        if self._worker.interrupt.wait(seconds / self.config.speed):
            raise Interrupted

    def load(self, model: str, seconds: float) -> None:
        if self._worker.loaded_model != model:
            self.wait(seconds)
            self._worker.loaded_model = model


def _output(result: NodeResult) -> Json | None:
    return None if result.ui is None else dict(result.ui)


def _type_name(error: Exception) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _shown(value: Any) -> Any:
    """An input as execution_error shows it: plain values as they are, the rest as text."""
    return value if value is None or isinstance(value, int | float | str) else str(value)
