"""What a run reports: to the history, and over the websocket to whoever may know."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageOps

from comfy_mcp.embedded.prompts import QueuedPrompt
from comfy_mcp.embedded.sockets import SocketHub

Json = dict[str, Any]

_ENDINGS = {
    "execution_success": "success",
    "execution_error": "error",
    "execution_interrupted": "interrupted",
}


class RunReporter:
    """The events of one prompt. They go to its submitter.

    Without a submitter the node events go to nobody, the progress and an interrupt to everybody. That is
    what ComfyUI does, and a client that filters by prompt_id is not disturbed.
    """

    def __init__(
        self, hub: SocketHub, item: QueuedPrompt, preview_size: int, ending: Callable[[str], None]
    ) -> None:
        """`ending` is called with how the run ends, before any client knows."""
        self._hub = hub
        self._ending = ending
        self._prompt_id = item.prompt_id
        self._client = item.client_id
        self._preview_size = preview_size
        self._states: dict[str, Json] = {}
        self.messages: list[tuple[str, Json]] = []

    def note(self, event: str, data: Json, *, to_all: bool = False) -> None:
        """Record an event with its time in the history and send it."""
        stamped = {"prompt_id": self._prompt_id, **data, "timestamp": int(time.time() * 1000)}
        self.messages.append((event, stamped))
        if event in _ENDINGS:
            self._ending(_ENDINGS[event])
        if self._client is not None or to_all:
            self._hub.send(event, stamped, self._client)

    def executing(self, node_id: str) -> None:
        self._hub.set_executing(self._client, node_id)
        self._tell("executing", {"node": node_id, "display_node": node_id})

    def executed(self, node_id: str, output: Json | None) -> None:
        self._tell("executed", {"node": node_id, "display_node": node_id, "output": output})

    def start(self, node_id: str) -> None:
        self._progress(node_id, 0.0, 1.0, "running")

    def finish(self, node_id: str) -> None:
        """A node that never started was cached: it counts as one step of one."""
        state = self._states.get(node_id)
        maximum = 1 if state is None else state["max"]
        self._progress(node_id, maximum, maximum, "finished")

    def step(self, node_id: str, value: int, maximum: int, preview: Image.Image | None) -> None:
        """A node's own progress. The two kinds of preview come on different sides of `progress`."""
        self._progress(node_id, value, maximum, "running")
        encoded = None
        if preview is not None and self._hub.listens(self._client):
            encoded = _jpeg(preview, self._preview_size)
        with_metadata = self._hub.wants_metadata(self._client)
        if encoded is not None and with_metadata:
            metadata = {
                "node_id": node_id,
                "prompt_id": self._prompt_id,
                "display_node_id": node_id,
                "parent_node_id": None,
                "real_node_id": node_id,
            }
            self._hub.send_preview(encoded, metadata, self._client)
        step = {"value": value, "max": maximum, "prompt_id": self._prompt_id, "node": node_id}
        self._hub.send("progress", step, self._client)
        if encoded is not None and not with_metadata:
            self._hub.send_preview(encoded, None, self._client)

    def _tell(self, event: str, data: Json) -> None:
        """Send an event that only the submitter may see."""
        if self._client is not None:
            self._hub.send(event, {**data, "prompt_id": self._prompt_id}, self._client)

    def _progress(self, node_id: str, value: float, maximum: float, state: str) -> None:
        """progress_state holds every node touched so far, so it grows with the graph."""
        self._states[node_id] = {
            "value": value,
            "max": maximum,
            "state": state,
            "node_id": node_id,
            "prompt_id": self._prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
        }
        self._hub.send("progress_state", {"prompt_id": self._prompt_id, "nodes": self._states}, self._client)


def _jpeg(image: Image.Image, size: int) -> bytes:
    """Scaled to the engine's preview size, up as well as down."""
    stream = io.BytesIO()
    fitted = ImageOps.contain(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    fitted.save(stream, format="JPEG", quality=90)
    return stream.getvalue()
