"""The JSON of Comfy API v2, made from the operations' results.

Times are ISO 8601, a fraction is 0 to 1, sizes are bytes. A link to follow is a path from the root; the URL
of a file is absolute and needs no key until it expires.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from comfy_mcp.domain.days import DAY_MS
from comfy_mcp.operations.assets import Asset
from comfy_mcp.operations.shapes import FailureItem, OutputItem, WorkflowResult

API = "/api/v2"
NEVER = "9999-12-31T23:59:59Z"
"""When a job that is kept for ever is deleted: the contract asks for a time."""

Json = dict[str, Any]
SignedUrl = tuple[str, int]
"""The URL, and when it ends in seconds of the epoch."""

TERMINAL = frozenset({"succeeded", "canceled", "failed", "expired"})
_STATUS = {
    "queued": "queued",
    "running": "running",
    "completed": "succeeded",
    "failed": "failed",
    "cancelled": "canceled",
}
_KINDS = frozenset({"image", "video", "audio", "text", "latent"})
_FAILURES = {"node_error": "node_execution_error"}
"""Where the contract has a word; the others are the bridge's own."""


def status_of(result: WorkflowResult) -> str:
    if result.status == "running" and result.cancel_requested:
        return "canceling"
    return _STATUS[result.status]


def job(result: WorkflowResult, outputs: list[Json], *, now_ms: int, retention_days: float) -> Json:
    """`outputs`: as `output` makes them."""
    path = f"{API}/jobs/{result.workflow_id}"
    kept_ms = round(retention_days * DAY_MS)
    return {
        "id": result.workflow_id,
        "status": status_of(result),
        "created_at": moment(result.created_time),
        "started_at": _moment_or_none(result.start_time),
        "completed_at": _moment_or_none(result.completion_time),
        "expires_at": moment((result.completion_time or now_ms) + kept_ms) if kept_ms else NEVER,
        "queue_position": result.queue_position,
        "progress": None if result.start_time is None else progress_of(result),
        "outputs": outputs,
        "error": None if result.failure is None else _error(result.failure),
        "metrics": _metrics(result),
        "urls": {"self": path, "events": f"{path}/events", "cancel": f"{path}/cancel"},
        "warnings": result.warnings,
        "metadata": result.tags,
    }


def entry(result: WorkflowResult) -> Json:
    """One job of a list."""
    return {
        "id": result.workflow_id,
        "status": status_of(result),
        "create_time": moment(result.created_time),
        "update_time": moment(result.completion_time or result.start_time or result.created_time),
        "metadata": result.tags,
    }


def progress_of(result: WorkflowResult) -> Json:
    fraction = 1.0 if result.status == "completed" else result.progress / 100
    return progress(fraction, result.node_count, result.current_node_id, result.current_node)


def progress(fraction: float, nodes: int, node_id: str | None, title: str | None) -> Json:
    """The bridge weighs nodes by what they took before, and does not count them: `nodes_done` follows the
    fraction."""
    return {
        "value": fraction,
        "nodes_done": int(fraction * nodes),
        "nodes_total": nodes,
        "current_node": node_id,
        "message": title,
    }


def output(item: OutputItem, size: int, url: SignedUrl) -> Json:
    """`hash` is null: the bridge knows the SHA-256 of an output, not its blake3."""
    return {
        "id": item.output_id,
        "job_id": item.workflow_id,
        "node_id": item.node_id or "",
        "name": PurePosixPath(item.filename).name or f"{item.output_id}.txt",
        "type": item.type if item.type in _KINDS else "file",
        "content_type": item.media_type or "application/octet-stream",
        "size_bytes": size,
        "hash": None,
        **_link(url),
    }


def uploaded(asset: Asset, url: SignedUrl) -> Json:
    return {
        "id": asset.id,
        "hash": asset.hash,
        "size_bytes": asset.size,
        "content_type": asset.media_type,
        "file_path": asset.name,
        "created_at": moment(asset.created_at),
        "expires_at": moment(asset.expires_at),
        **_link(url),
    }


def output_asset(made: Mapping[str, Any], created_ms: int) -> Json:
    """An output as an asset; `made` by `output`."""
    same = ("id", "job_id", "hash", "size_bytes", "content_type", "url", "url_expires_at")
    return {
        **{name: made[name] for name in same},
        "file_path": made["name"],
        "created_at": moment(created_ms),
    }


def moment(epoch_ms: int) -> str:
    text = datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _link(url: SignedUrl) -> Json:
    return {"url": url[0], "url_expires_at": moment(url[1] * 1000)}


def _moment_or_none(epoch_ms: int | None) -> str | None:
    return None if epoch_ms is None else moment(epoch_ms)


def _error(failure: FailureItem) -> Json:
    return {
        "code": _FAILURES.get(failure.kind, failure.kind),
        "message": failure.message,
        "node_id": failure.node_id,
        "class_type": failure.node_type,
    }


def _metrics(result: WorkflowResult) -> Json:
    began, ended = result.start_time, result.completion_time
    return {
        "queue_ms": None if began is None else began - result.created_time,
        "execution_ms": None if began is None or ended is None else ended - began,
    }
