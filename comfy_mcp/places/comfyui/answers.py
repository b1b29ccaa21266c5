"""Pure: the engine's JSON answers as values. A shape that is not the protocol's raises WireFault."""

from collections.abc import Mapping
from typing import Any

from comfy_mcp.domain.catalog import Model
from comfy_mcp.domain.events import FailureKind, JobFailure
from comfy_mcp.domain.ids import PromptId
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.places.comfyui.failures import dropped_branches, execution_failure, validation_failure
from comfy_mcp.places.comfyui.outputs import outputs_of_prompt
from comfy_mcp.places.protocol import Accepted, QueueView, Rejected, UploadedFile


class WireFault(Exception):
    """Bytes or JSON that are not the protocol. The text names the place and never repeats the bytes."""


def accepted(body: object) -> Accepted:
    """A 200 to POST /prompt."""
    fields = _object(body, "POST /prompt")
    if not isinstance(fields.get("prompt_id"), str):
        raise WireFault("POST /prompt: the answer has no prompt_id")
    return Accepted(dropped=dropped_branches(fields.get("node_errors")))


def rejected(body: object) -> Rejected:
    """A 400 to POST /prompt."""
    fields = _object(body, "POST /prompt")
    if "error" not in fields:
        raise WireFault("POST /prompt: a 400 without an error")
    return Rejected(failure=validation_failure(fields["error"], fields.get("node_errors")))


def queue_view(body: object) -> QueueView:
    """Pending ones sorted by (number, id), for the engine sends them in heap order.

    Items are `[number, prompt_id, prompt, extra_data, outputs]`; malformed ones raise WireFault."""
    fields = _object(body, "GET /queue")
    running = sorted(_queue_items(fields.get("queue_running")))
    pending = sorted(_queue_items(fields.get("queue_pending")))
    return QueueView(
        running=tuple(prompt_id for _, prompt_id in running),
        pending=tuple(prompt_id for _, prompt_id in pending),
    )


def queue_remaining(body: object) -> int:
    """GET /prompt, and the data of a `status` message: `{exec_info: {queue_remaining}}`."""
    count = _object(_object(body, "status").get("exec_info"), "exec_info").get("queue_remaining")
    if not isinstance(count, int):
        raise WireFault("exec_info has no queue_remaining")
    return count


def prompt_result(body: object, prompt_id: PromptId) -> PromptResult | None:
    """GET /history/{id}: None while pending, running or unknown (the engine sends `{}` for all three)."""
    entry = _object(body, "GET /history").get(prompt_id)
    if entry is None:
        return None
    fields = _object(entry, "a history entry")
    outputs = outputs_of_prompt(fields.get("outputs"), fields.get("meta"))
    status = fields.get("status")
    if not isinstance(status, Mapping) or status.get("status_str") == "success":
        # Very old entries have no status; they were only written at the end of a run.
        return PromptResult(ending=PromptEnding.SUCCESS, outputs=outputs)
    name, data = _last_message(status.get("messages"))
    if name == "execution_interrupted":  # `status_str` says "error" here too
        return PromptResult(ending=PromptEnding.INTERRUPTED, outputs=outputs)
    failure = execution_failure(data) if name == "execution_error" else _UNEXPLAINED
    return PromptResult(ending=PromptEnding.ERROR, outputs=outputs, failure=failure)


def model_names(body: object) -> tuple[str, ...]:
    """GET /models and /models/{folder}: a list of names."""
    return tuple(name for name in _array(body, "GET /models") if isinstance(name, str))


def models_of(body: object, folder: str) -> tuple[Model, ...]:
    """GET /experiment/models/{folder}: `[{name, pathIndex, modified, created, size}]`, times in seconds."""
    return tuple(
        Model(
            name=entry["name"],
            type=folder,
            size=_whole(entry.get("size")),
            modified_at=_whole(entry.get("modified"), 1000),
        )
        for entry in _array(body, "GET /experiment/models")
        if isinstance(entry, Mapping) and isinstance(entry.get("name"), str)
    )


def uploaded(body: object) -> UploadedFile:
    fields = _object(body, "POST /upload/image")
    name, subfolder, folder_type = (fields.get(key) for key in ("name", "subfolder", "type"))
    if not isinstance(name, str):
        raise WireFault("POST /upload/image: the answer has no name")
    return UploadedFile(
        name=name,
        subfolder=subfolder if isinstance(subfolder, str) else "",
        folder_type=folder_type if isinstance(folder_type, str) else "input",
    )


def json_object(body: object, place: str) -> Mapping[str, Any]:
    """Any answer that is an object (`/object_info`, `/system_stats`)."""
    return _object(body, place)


_UNEXPLAINED = JobFailure(kind=FailureKind.NODE_ERROR, message="The run failed; the engine gave no reason.")


def _last_message(messages: object) -> tuple[str, Mapping[str, Any]]:
    """The last `[name, data]` of `status.messages`."""
    if isinstance(messages, list) and messages and isinstance(messages[-1], list) and len(messages[-1]) == 2:
        name, data = messages[-1]
        return str(name), data if isinstance(data, Mapping) else {}
    return "", {}


def _queue_items(items: object) -> list[tuple[float, PromptId]]:
    found: list[tuple[float, PromptId]] = []
    for item in _array(items, "GET /queue"):
        if (
            not isinstance(item, list)
            or len(item) < 2
            or not isinstance(item[0], int | float)
            or not isinstance(item[1], str)
        ):
            raise WireFault("GET /queue: an item is not [number, id, …]")
        found.append((item[0], PromptId(item[1])))
    return found


def _whole(value: object, factor: int = 1) -> int | None:
    if not isinstance(value, int | float):
        return None
    try:
        return int(value * factor)
    except (OverflowError, ValueError):  # inf, nan
        return None


def _object(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise WireFault(f"{place}: not a JSON object")
    return value


def _array(value: object, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise WireFault(f"{place}: not a JSON array")
    return value
