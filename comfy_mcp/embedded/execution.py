"""Runs prompts, one after the other, in one worker thread, and says what happens while it does."""

from __future__ import annotations

import io
import logging
import secrets
import string
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps

from comfy_mcp.embedded.cache import CachedResult, OutputCache, is_link, signatures
from comfy_mcp.embedded.config import EngineConfig
from comfy_mcp.embedded.directories import Directories
from comfy_mcp.embedded.nodes import NodeType
from comfy_mcp.embedded.nodes.base import Interrupted, NodeFailure, NodeResult
from comfy_mcp.embedded.prompts import Finished, PromptQueue, QueuedPrompt
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
        self.hub = hub
        self.interrupt = threading.Event()
        self.temp_suffix = "".join(secrets.choice(string.ascii_lowercase) for _ in range(5))
        self.cache = OutputCache(config.cache_pixels)
        self._queue = queue

    def loop(self) -> None:
        """Run until the queue is closed."""
        while not self._queue.closed:
            item = self._queue.take()
            if item is None:
                if "free_memory" in self._queue.take_flags():
                    self.cache.clear()
                continue
            finished = self._run(item)
            self._queue.finish(item, finished)
            # The history has the entry before this last event of the prompt is sent: clients rely on it.
            if item.client_id is not None:
                self.hub.send("executing", {"node": None, "prompt_id": item.prompt_id}, item.client_id)

    def check_interrupt(self) -> None:
        if self.interrupt.is_set():
            raise Interrupted

    def _run(self, item: QueuedPrompt) -> Finished:
        self.interrupt.clear()
        run = PromptRun(self, item)
        try:
            return run.run()
        except Exception:  # noqa: BLE001 - one bad prompt must not end the only worker
            _log.exception("The engine failed while it ran prompt %s.", item.prompt_id)
            return Finished(success=False, messages=run.messages)
        finally:
            self.hub.set_executing(None, None)


class PromptRun:
    """One prompt from `execution_start` to its end."""

    def __init__(self, worker: Worker, item: QueuedPrompt) -> None:
        self._worker = worker
        self._hub = worker.hub
        self._item = item
        self._client = item.client_id
        self._keys = signatures(item.prompt, worker.nodes, worker.directories)
        self._made: dict[str, NodeResult] = {}
        self._states: dict[str, Json] = {}
        self._executed: list[str] = []
        self._outputs: Json = {}
        self._meta: Json = {}
        self.messages: list[tuple[str, Json]] = []

    def run(self) -> Finished:
        cache, prompt = self._worker.cache, self._item.prompt
        self._note("execution_start", {})
        cache.keep_only(set(self._keys.values()))
        cached = [node_id for node_id in prompt if self._cached(node_id) is not None]
        self._note("execution_cached", {"nodes": cached})
        schedule = Schedule(prompt, self._item.outputs, set(cached))
        success = True
        while success and (node_id := schedule.next()) is not None:
            success = self._execute(node_id)
            schedule.done(node_id)
        if success:
            self._note("execution_success", {})
        return Finished(success=success, messages=self.messages, outputs=self._outputs, meta=self._meta)

    def _cached(self, node_id: str) -> CachedResult | None:
        key = self._keys.get(node_id)
        return None if key is None else self._worker.cache.get(key)

    def _execute(self, node_id: str) -> bool:
        """Run one node, or take over its cached result. Whether the prompt goes on."""
        cached = self._cached(node_id)
        if cached is not None:
            self._made[node_id] = cached.result
            self._show(node_id, cached.result, made_by=cached.made_by)
            self._tell_executed(node_id, cached.result)
            self._progress(node_id, value=1, maximum=1, state="finished")
            return True
        self._progress(node_id, value=0.0, maximum=1.0, state="running")
        self._hub.set_executing(self._client, node_id)
        self._tell("executing", {"node": node_id, "display_node": node_id})
        inputs: Json = {}
        try:
            self._worker.check_interrupt()
            inputs = self._inputs_of(node_id)
            context = NodeContext(self._worker, self, self._item, node_id)
            result = self._node(node_id).run(context, inputs)
        except Interrupted:
            self._stop("execution_interrupted", node_id, {}, to_all=True)
            return False
        except Exception as error:  # noqa: BLE001 - whatever a node raises is the result of the prompt
            self._stop("execution_error", node_id, self._failure(error, inputs), to_all=False)
            return False
        self._made[node_id] = result
        if (key := self._keys.get(node_id)) is not None:
            self._worker.cache.put(key, CachedResult(result, node_id))
        self._show(node_id, result, made_by=node_id)
        if result.ui is not None:
            self._tell_executed(node_id, result)
        state = self._states[node_id]
        self._progress(node_id, value=state["max"], maximum=state["max"], state="finished")
        self._executed.append(node_id)
        return True

    def _node(self, node_id: str) -> NodeType:
        return self._worker.nodes[self._item.prompt[node_id]["class_type"]]

    def _inputs_of(self, node_id: str) -> Json:
        """Literals as they are, links replaced by what the other node made."""
        declared = self._node(node_id).inputs(self._worker.directories).declared()
        given = self._item.prompt[node_id]["inputs"]
        values: Json = {}
        for name in declared:
            if name not in given:
                continue
            value = given[name]
            if is_link(value):
                source, slot = value
                value = self._result_of(source).values[slot]
            values[name] = value
        return values

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

    def _tell_executed(self, node_id: str, result: NodeResult) -> None:
        output = None if result.ui is None else dict(result.ui)
        self._tell("executed", {"node": node_id, "display_node": node_id, "output": output})

    def _failure(self, error: Exception, inputs: Json) -> Json:
        wanted = self._node(node_id).inputs(self._worker.directories).hidden or {}
        known = {
            "PROMPT": self._item.prompt,
            "EXTRA_PNGINFO": self._item.extra_data.get("extra_pnginfo"),
        }
        hidden = {name: known[kind] for name, kind in wanted.items() if kind in known}
        kind = error.kind if isinstance(error, NodeFailure) else _type_name(error)
        return {
            "exception_message": f"{error}\n",
            "exception_type": kind,
            "traceback": traceback.format_tb(error.__traceback__),
            "current_inputs": {name: [_shown(value)] for name, value in (inputs | hidden).items()},
            "current_outputs": list(self._item.prompt),
        }

    def _stop(self, event: str, node_id: str, more: Json, *, to_all: bool) -> None:
        data = {
            "node_id": node_id,
            "node_type": self._item.prompt[node_id]["class_type"],
            "executed": list(self._executed),
            **more,
        }
        self._note(event, data, to_all=to_all)

    def _note(self, event: str, data: Json, *, to_all: bool = False) -> None:
        """Record an event in the history and send it to its owner; without an owner, to all or to nobody."""
        stamped = {"prompt_id": self._item.prompt_id, **data, "timestamp": int(time.time() * 1000)}
        if event == "execution_cached":
            # The one event in which ComfyUI puts the id second.
            stamped = {"nodes": data["nodes"], **{k: v for k, v in stamped.items() if k != "nodes"}}
        self.messages.append((event, stamped))
        if self._client is not None or to_all:
            self._hub.send(event, stamped, self._client)

    def _tell(self, event: str, data: Json) -> None:
        """Send an event that only the submitter may see."""
        if self._client is not None:
            self._hub.send(event, {**data, "prompt_id": self._item.prompt_id}, self._client)

    def _progress(self, node_id: str, *, value: float, maximum: float, state: str) -> None:
        """progress_state holds every node touched so far, and goes to all when there is no submitter."""
        prompt_id = self._item.prompt_id
        self._states[node_id] = {
            "value": value,
            "max": maximum,
            "state": state,
            "node_id": node_id,
            "prompt_id": prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
        }
        self._hub.send("progress_state", {"prompt_id": prompt_id, "nodes": self._states}, self._client)

    def step(self, node_id: str, value: int, maximum: int, preview: Image.Image | None) -> None:
        """A node's own progress. The two kinds of preview come on different sides of `progress`."""
        self._progress(node_id, value=value, maximum=maximum, state="running")
        encoded = None
        if preview is not None and self._hub.listens(self._client):
            encoded = _jpeg(preview, self._worker.config.preview_size)
        with_metadata = self._hub.wants_metadata(self._client)
        prompt_id = self._item.prompt_id
        if encoded is not None and with_metadata:
            metadata = {
                "node_id": node_id,
                "prompt_id": prompt_id,
                "display_node_id": node_id,
                "parent_node_id": None,
                "real_node_id": node_id,
            }
            self._hub.send_preview(encoded, metadata, self._client)
        step = {"value": value, "max": maximum, "prompt_id": prompt_id, "node": node_id}
        self._hub.send("progress", step, self._client)
        if encoded is not None and not with_metadata:
            self._hub.send_preview(encoded, None, self._client)


class NodeContext:
    """What a running node sees of the engine."""

    def __init__(self, worker: Worker, run: PromptRun, item: QueuedPrompt, node_id: str) -> None:
        self.directories = worker.directories
        self.config = worker.config
        self.temp_suffix = worker.temp_suffix
        self.prompt: Mapping[str, Any] = item.prompt
        extra = item.extra_data.get("extra_pnginfo")
        self.extra_pnginfo: Mapping[str, Any] | None = extra if isinstance(extra, dict) else None
        self._worker = worker
        self._run = run
        self._node_id = node_id

    def progress(self, value: int, maximum: int, preview: Image.Image | None = None) -> None:
        self._worker.check_interrupt()
        self._run.step(self._node_id, value, maximum, preview)

    def wait(self, seconds: float) -> None:
        if self._worker.interrupt.wait(seconds):
            raise Interrupted


def _type_name(error: Exception) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _shown(value: Any) -> Any:
    """An input as execution_error shows it: plain values as they are, the rest as text."""
    return value if value is None or isinstance(value, int | float | str) else str(value)


def _jpeg(image: Image.Image, size: int) -> bytes:
    stream = io.BytesIO()
    ImageOps.contain(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR).save(
        stream, format="JPEG", quality=90
    )
    return stream.getvalue()
