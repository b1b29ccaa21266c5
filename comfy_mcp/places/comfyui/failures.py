"""Pure: what ComfyUI says when a graph fails, as a JobFailure.

`execution_error` (socket, and the last message of a history entry) carries a traceback, the server's paths
and the node's inputs, hidden ones with tokens among them. The agent gets a short cause without paths; the
rest goes to `detail`, bounded and with secrets blanked.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from comfy_mcp.domain.events import FailureKind, JobFailure
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.redaction import without_secrets
from comfy_mcp.domain.shown import shown
from comfy_mcp.places.json_text import members

MAX_CAUSE_CHARS = 300
MAX_DETAIL_CHARS = 16 * 1024

MAX_READ_CHARS = 64 * 1024
MAX_READ = 1_000
"""Of a text, and of the entries of a list: what an engine sends beyond them is not looked at."""


def execution_failure(data: Mapping[str, Any]) -> JobFailure:
    """From the data of an `execution_error`. Missing fields are left out, never an error."""
    exception_type = _text(data.get("exception_type"))[:MAX_CAUSE_CHARS]
    message = _text(data.get("exception_message"))
    kind = _kind(exception_type, message)
    return JobFailure(
        kind=kind,
        message=_cause(kind, exception_type, message),
        node_id=_node_id(data.get("node_id")),
        node_type=_text(data.get("node_type"))[:MAX_CAUSE_CHARS] or None,
        detail=_execution_detail(data, exception_type, message),
    )


def validation_failure(error: object, node_errors: object) -> JobFailure:
    """From a 400 to POST /prompt: `{error: {type, message, details, extra_info}, node_errors}`."""
    top = error if isinstance(error, Mapping) else {"message": _text(error)}
    extra = members(top.get("extra_info"))
    said = {"error": error, "node_errors": node_errors}
    problems = list(islice(_node_problems(node_errors), MAX_READ))
    node_id: NodeId | None
    if problems:
        node_id, node_type = problems[0][0], problems[0][1]
        message = _listed([text for _, _, text in problems])
    else:
        node_id = _node_id(extra.get("node_id"))
        node_type = _text(extra.get("class_type"))[:MAX_CAUSE_CHARS] or None
        parts = [_text(top.get("message")) or "The engine refused the graph", _text(top.get("details"))]
        message = " — ".join(part for part in parts if part)
    return JobFailure(
        kind=FailureKind.VALIDATION,
        message=_short(message) or "The engine refused the graph",
        node_id=node_id,
        node_type=node_type,
        detail=_bounded(json.dumps(without_secrets(said), default=str)),
    )


def dropped_branches(node_errors: object) -> dict[NodeId, str]:
    """Output nodes that a 200 left out, with the reason: `node_errors[id].dependent_outputs`. The first
    MAX_READ of them."""
    dropped: dict[NodeId, str] = {}
    for node, entry in islice(members(node_errors).items(), MAX_READ):
        texts = [text for _, _, text in islice(_node_problems({node: entry}), MAX_READ)]
        reason = _short(_listed(texts)) if texts else f"Node {_id(node)} is not valid"
        outputs = members(entry).get("dependent_outputs")
        names = [_id(name) for name in outputs[:MAX_READ]] if isinstance(outputs, list) else []
        for name in names or [_id(node)]:
            dropped.setdefault(name, reason)
        if len(dropped) >= MAX_READ:
            break
    return dropped


# Texts of real allocators: CUDA, ComfyUI's wrapper, ROCm, MPS, DirectML, XPU, CPU, cuDNN and cuBLAS.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|OutOfMemory|Allocation on device|not enough GPU video memory|not enough memory:"
    r"|OUT_OF_(?:DEVICE_|HOST_)?MEMORY|(?:CUDNN|CUBLAS|HIPBLAS)_STATUS_ALLOC_FAILED|can't allocate memory",
    re.IGNORECASE,
)
# folder_paths.get_full_path_or_raise: the only text that says for certain that a model file is missing.
_MISSING_MODEL = re.compile(r"Model in folder '[^']*' with filename '[^']*' not found")


def _kind(exception_type: str, message: str) -> FailureKind:
    message = message[:MAX_READ_CHARS]
    if exception_type == "MemoryError" or _OUT_OF_MEMORY.search(f"{exception_type} {message}"):
        return FailureKind.OOM
    if _MISSING_MODEL.search(message):
        return FailureKind.MISSING_MODEL
    return FailureKind.NODE_ERROR


def _cause(kind: FailureKind, exception_type: str, message: str) -> str:
    lines = [line.strip() for line in message[:MAX_READ_CHARS].splitlines() if line.strip()]
    # After the first line an out-of-memory text is allocator statistics and tips.
    text = " ".join(lines[:1] if kind is FailureKind.OOM else lines)
    name = exception_type.rpartition(".")[2]
    if not text:
        return _short(name or "The node failed without a reason")
    return _short(text if name in {"", "Exception"} else f"{name}: {text}")


_PART = r"[^\s'\"<>|:*?\\/]"
_QUOTED_PATH = re.compile(r"(?<=['\"])(?:[A-Za-z]:)?[\\/][^'\"\n]*[\\/]([^'\"\\/\n]*)(?=['\"])")
_BARE_PATH = re.compile(rf"(?<![\w.…:/\\-])(?:[A-Za-z]:)?[\\/](?:{_PART}+[\\/])*({_PART}*)")


def _without_paths(text: str) -> str:
    """Absolute paths keep only their last part. A path with spaces is recognised inside quotes only."""
    text = _QUOTED_PATH.sub(r"…/\1", text)
    return _BARE_PATH.sub(lambda found: f"…/{found[1]}" if len(found[0]) > 1 else found[0], text)


def _short(text: str) -> str:
    text = " ".join(_without_paths(text[:MAX_READ_CHARS]).split())
    return text if len(text) <= MAX_CAUSE_CHARS else f"{text[: MAX_CAUSE_CHARS - 1]}…"


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_DETAIL_CHARS else f"{text[: MAX_DETAIL_CHARS - 1]}…"


def _execution_detail(data: Mapping[str, Any], exception_type: str, message: str) -> str:
    traceback = data.get("traceback")
    # Half for the traceback, whose end says most; the rest for the inputs.
    most = MAX_DETAIL_CHARS // 2
    lines = traceback[-MAX_READ:] if isinstance(traceback, list) else [traceback]
    trace = "".join(_text(line)[-most:] for line in lines)[-most:]
    parts = [f"{exception_type}: {message[:2000]}", trace]
    if inputs := data.get("current_inputs"):
        parts.append(f"inputs: {json.dumps(without_secrets(inputs), default=str)}")
    return _bounded("\n".join(part for part in parts if part))


def _node_problems(node_errors: object) -> Iterator[tuple[NodeId, str | None, str]]:
    """(node, class_type, sentence) for each error of each node."""
    for node, entry in members(node_errors).items():
        class_type = _text(members(entry).get("class_type"))[:MAX_CAUSE_CHARS] or None
        errors = members(entry).get("errors")
        for error in errors if isinstance(errors, list) else []:
            fields = members(error)
            name = f"node {_id(node)} ({class_type})" if class_type else f"node {_id(node)}"
            texts = [_text(fields.get("message")) or _text(fields.get("type")), _text(fields.get("details"))]
            said = ": ".join(text[:MAX_READ_CHARS] for text in texts if text)
            yield _id(node), class_type, f"{name}: {said}"


_LISTED = 3


def _listed(texts: list[str]) -> str:
    # Shortened one by one, so that a long first one does not hide the others.
    shown = [text if len(text) <= 120 else f"{text[:119]}…" for text in texts[:_LISTED]]
    if len(texts) == 1:
        return texts[0]
    more = len(texts) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _node_id(value: object) -> NodeId | None:
    return _id(value) if isinstance(value, str | int) else None


def _id(value: object) -> NodeId:
    return NodeId(value[:MAX_CAUSE_CHARS] if isinstance(value, str) else shown(value))
