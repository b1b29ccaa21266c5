"""Pure: frames of /ws as domain events. No I/O, no clock.

`progress_state` repeats every node so far on every step, so it grows with the square of the node count
(72 MB for 600 nodes). In all recordings (0.3.75 and 0.33.0) `executing` and `progress` say the same of our
own prompts; but nodes that report through the newer node API's `set_progress` send only `progress_state`. So
it is never parsed whole: the few entries whose state is "running" are cut out of the text, and what
`progress` repeats is dropped.
"""

import json
import math
import re
from typing import Any

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.events import (
    EngineEvent,
    FrameLost,
    NodeExecuted,
    NodeProgressed,
    NodesCached,
    NodeStarted,
    PreviewFrame,
    PromptEnded,
    PromptFailed,
    PromptInterrupted,
    PromptStarted,
    PromptSucceeded,
    QueueRemaining,
    UnknownMessage,
)
from comfy_mcp.domain.ids import NodeId, PromptId
from comfy_mcp.domain.progress import MAX_NAME_CHARS
from comfy_mcp.places import json_text
from comfy_mcp.places.comfyui.answers import WireFault, queue_remaining
from comfy_mcp.places.comfyui.failures import execution_failure
from comfy_mcp.places.comfyui.outputs import outputs_of_node

FEATURE_FLAGS = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
"""The first message on every connection: without it previews carry no prompt and no node."""

_Fields = dict[str, Any]


class Decoder:
    """Decodes one connection's frames, in order.

    It remembers the display node of each expanded node, to name nodes as the submitted graph does, and the
    last step it gave, to give no step twice. `sid` is the client id that the engine greeted.
    """

    def __init__(self) -> None:
        self.sid: str | None = None
        self._display: Bounded[NodeId, NodeId] = Bounded(MAX_DISPLAYED)
        self._last_step: NodeProgressed | None = None

    def text(self, frame: str) -> tuple[EngineEvent, ...]:
        """Known but not needed: nothing. Unknown: UnknownMessage. Known but of another shape: FrameLost.

        Raises WireFault for what is not JSON.
        """
        data: Any
        if frame[:17] == _STATUS and (count := _QUEUE.fullmatch(frame)) is not None:
            return (QueueRemaining(count=int(count[1])),)
        if frame.startswith(_PROGRESS_STATE):
            if not (running := _running_nodes(frame)):
                return ()
            kind, data = "progress_state", {"nodes": running}
        else:
            kind, data = _message(frame)
        if kind in _NOT_NEEDED:
            return ()
        if not isinstance(data, dict):
            return (FrameLost(type=kind),)
        try:
            return self._events(kind, data)
        except (WireFault, _ShapeFault):
            return (FrameLost(type=kind),)

    def binary(self, frame: bytes) -> tuple[EngineEvent, ...]:
        """Previews. Raises WireFault for a frame that is cut short."""
        event = _u32(frame, 0)
        if event == 1:
            media_type = _IMAGE_FORMATS.get(_u32(frame, 4), "application/octet-stream")
            return (PreviewFrame(prompt_id=None, node=None, media_type=media_type, data=frame[8:]),)
        if event == 4:
            return (_preview_with_metadata(frame),)
        return () if event == 3 else (UnknownMessage(type=f"binary {event}"),)

    def _events(self, kind: str, data: _Fields) -> tuple[EngineEvent, ...]:
        match kind:
            case "status":
                self.sid = _text(data, "sid") or self.sid
                return (QueueRemaining(count=queue_remaining(data.get("status"))),)
            case "executing":
                return self._executing(data)
            case "progress":
                return self._steps([data])
            case "progress_state":
                nodes = data.get("nodes")
                entries = nodes.values() if isinstance(nodes, dict) else []
                return self._steps([entry for entry in entries if _is_running(entry)])
            case "executed":
                node = _shown(data)
                outputs = outputs_of_node(node, data.get("output"))
                return (NodeExecuted(prompt_id=_prompt_id(data), node=node, outputs=outputs),)
            case _:
                return (self._of_prompt(kind, data),)

    def _of_prompt(self, kind: str, data: _Fields) -> EngineEvent:
        match kind:
            case "execution_start":
                self._display.clear()
                return PromptStarted(prompt_id=_prompt_id(data))
            case "execution_cached":
                nodes = data.get("nodes")
                names = nodes if isinstance(nodes, list) else []
                return NodesCached(
                    prompt_id=_prompt_id(data), nodes=tuple(NodeId(str(name)) for name in names)
                )
            case "execution_success":
                return PromptSucceeded(prompt_id=_prompt_id(data))
            case "execution_error":
                return PromptFailed(prompt_id=_prompt_id(data), failure=execution_failure(data))
            case "execution_interrupted":
                return PromptInterrupted(prompt_id=_prompt_id(data))
            case _:
                return UnknownMessage(type=kind)

    def _executing(self, data: _Fields) -> tuple[EngineEvent, ...]:
        if _text(data, "prompt_id") is None:
            # Sent once to a socket that reconnects: the running node without its prompt. The resync finds it.
            return ()
        if data.get("node") is None:
            return (PromptEnded(prompt_id=_prompt_id(data)),)
        own, shown = _node(data, "node"), _shown(data)
        if max(len(own), len(shown)) <= MAX_NAME_CHARS:
            self._display[own] = shown
        return (NodeStarted(prompt_id=_prompt_id(data), node=shown),)

    def _steps(self, entries: list[_Fields]) -> tuple[EngineEvent, ...]:
        steps: tuple[EngineEvent, ...] = ()
        for entry in entries:
            step = self._step(entry)
            if step is not None and step != self._last_step:
                self._last_step = step
                steps += (step,)
        return steps

    def _step(self, data: _Fields) -> NodeProgressed | None:
        """From `progress` or an entry of `progress_state`; None when it says nothing yet."""
        value, maximum = _number(data, "value"), _number(data, "max")
        if value <= 0 or maximum <= 0:
            return None
        own = _node(data, "node_id" if "node_id" in data else "node")
        shown = _text(data, "display_node_id") or self._display.get(own, own)
        return NodeProgressed(prompt_id=_prompt_id(data), node=NodeId(shown), value=value, maximum=maximum)


_NOT_NEEDED = frozenset({"feature_flags"})
_IMAGE_FORMATS = {1: "image/jpeg", 2: "image/png"}
_PROGRESS_STATE = ('{"type": "progress_state"', '{"type":"progress_state"')
_STATUS = '{"type": "status"'
_QUEUE = re.compile(_STATUS + r', "data": \{"status": \{"exec_info": \{"queue_remaining": (\d{1,9})\}\}\}\}')
"""What an engine sends to everybody with each prompt that comes or goes; the first frame has a `sid` too."""

_RUNNING = re.compile(r'"state":\s*"running"')

MAX_RUNNING_NODES = 64
"""An engine runs one node, or some that wait for others. More of them in one frame are left out."""

MAX_DISPLAYED = 4096
"""Nodes of one run whose display node is remembered."""

MAX_ENTRY_CHARS = 4096
"""Between an entry's state and each of its braces: it has seven short fields."""


class _ShapeFault(Exception):
    """A known message without the fields it should have."""


# What a message's data say, each field by a function that raises _ShapeFault for what is missing. The values
# come of JSON: their classes are the plain ones.


def _prompt_id(data: _Fields) -> PromptId:
    value = data.get("prompt_id")
    if value.__class__ is not str:
        raise _ShapeFault
    return PromptId(value)


def _node(data: _Fields, name: str) -> NodeId:
    value = data.get(name)
    if not isinstance(value, str | int):
        raise _ShapeFault
    return NodeId(str(value))


def _shown(data: _Fields) -> NodeId:
    return NodeId(_text(data, "display_node") or _node(data, "node"))


def _text(data: _Fields, name: str) -> str | None:
    value = data.get(name)
    return value if value.__class__ is str else None


def _number(data: _Fields, name: str) -> float:
    value = data.get(name)
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        raise _ShapeFault from None
    if not math.isfinite(number):
        raise _ShapeFault
    return number


def _is_running(entry: object) -> bool:
    """Steps of loading a model (`activity`) are not the node's own: it would seem done before it began."""
    return isinstance(entry, dict) and entry.get("state") == "running" and entry.get("activity") != "loading"


def _message(frame: str) -> tuple[str, Any]:
    """(type, data) of a text frame."""
    try:
        message = json_text.parse(frame)
    except (ValueError, RecursionError):
        raise WireFault("a text frame is not JSON") from None
    kind = message.get("type") if message.__class__ is dict else None
    if kind.__class__ is not str:
        raise WireFault("a text frame has no type")
    return kind, message.get("data")


def _running_nodes(frame: str) -> dict[int, Any]:
    """The entries of a `progress_state` frame whose state is "running", without parsing the others.

    An entry is a flat object, so its braces are the nearest ones. What does not parse is left out: the step
    is lost, not the connection.
    """
    found: dict[int, Any] = {}
    at = 0
    for _ in range(MAX_RUNNING_NODES):
        match = _RUNNING.search(frame, at)
        if match is None:
            break
        start = frame.rfind("{", max(at, match.start() - MAX_ENTRY_CHARS), match.start())
        end = frame.find("}", match.end(), match.end() + MAX_ENTRY_CHARS)
        at = match.end()
        if start >= 0 and end >= 0:
            at = end
            try:
                found[start] = json_text.parse(frame[start : end + 1])
            except (ValueError, RecursionError):
                continue
    return found


def _preview_with_metadata(frame: bytes) -> PreviewFrame:
    """Event 4: u32 length, JSON `{node_id, display_node_id, prompt_id, image_type, …}`, image."""
    length = _u32(frame, 4)
    if len(frame) < 8 + length:
        raise WireFault("a preview frame ends inside its metadata")
    try:
        metadata = json_text.parse(frame[8 : 8 + length])
    except (ValueError, RecursionError):
        raise WireFault("a preview frame's metadata is not JSON") from None
    if not isinstance(metadata, dict):
        raise WireFault("a preview frame's metadata is not an object")
    prompt_id = _text(metadata, "prompt_id")
    node = _text(metadata, "display_node_id") or _text(metadata, "node_id")
    return PreviewFrame(
        prompt_id=None if prompt_id is None else PromptId(prompt_id),
        node=None if node is None else NodeId(node),
        media_type=_text(metadata, "image_type") or "application/octet-stream",
        data=frame[8 + length :],
    )


def _u32(frame: bytes, offset: int) -> int:
    if len(frame) < offset + 4:
        raise WireFault("a binary frame is cut short")
    return int.from_bytes(frame[offset : offset + 4], "big")
