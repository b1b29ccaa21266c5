"""The embedded engine's settings: plain values, nothing is read from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMPATIBLE_WITH = "0.3.75"
"""The ComfyUI release whose behaviour this engine reproduces."""

HISTORY_LIMIT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Where the engine keeps its files and how much it may use.

    base_directory: holds input/, output/, temp/ and models/; created when missing.
    host, port: loopback by default; port 0 lets the system choose.
    history_limit: finished prompts kept, the oldest dropped first.
    preview_size: longest side of a step preview in pixels, whatever the size of the image.
    max_upload_bytes: largest request body; announced as max_upload_size in /features.
    max_pixels: pixels in one batch of images; a node that would pass it fails instead of filling memory.
    cache_pixels: pixels of node outputs kept for the next prompt; beyond it the rest is recomputed.
    socket_queue: frames waiting for one slow websocket reader; beyond it the reader is cut off.
    socket_queue_bytes: the same bound in bytes.
    object_info: a recorded answer of GET /object_info, served instead of the engine's own. Of its classes
    those run that this engine has; None: its own.
    without: classes that this engine does not have.
    speed: the demo nodes take their time divided by this.
    execution_log: a file that gets a line per step of each prompt (see execution_log.py); None: no log.
    """

    base_directory: Path
    host: str = "127.0.0.1"
    port: int = 0
    history_limit: int = HISTORY_LIMIT
    preview_size: int = 512
    max_upload_bytes: int = 100 * 1024 * 1024
    max_pixels: int = 64 * 1024 * 1024
    cache_pixels: int = 128 * 1024 * 1024
    socket_queue: int = 4096
    socket_queue_bytes: int = 64 * 1024 * 1024
    object_info: Mapping[str, Any] | None = None
    without: frozenset[str] = frozenset()
    speed: float = 1.0
    execution_log: Path | None = None
