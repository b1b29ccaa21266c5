"""Constants of the product that a test may change: with the real ones it would wait for seconds.

`with constants(QUIET_S=0.05):` in this process. A process of a fault trial gets them as chaos (chaos.py).
"""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

OWNERS: Mapping[str, str] = MappingProxyType(
    {
        "BUSY_S": "comfy_mcp.store.database",
        "CANCEL_WAIT_S": "comfy_mcp.operations.cancelling",
        "INLINE_BYTES": "comfy_mcp.checking.checker",
        "MAX_PAUSE_S": "comfy_mcp.places.comfyui.listener",
        "NODES_FRESH_S": "comfy_mcp.places.comfyui.node_list",
        "PROGRESS_S": "comfy_mcp.driving.attempt",
        "QUIET_S": "comfy_mcp.driving.hearing",
        "REFRESH_S": "comfy_mcp.operations.metrics_refresh",
        "RETENTION_PAUSE_S": "comfy_mcp.runtime",
        "SALAD_URL": "comfy_mcp.settings.cloud",
        "SAMPLE_S": "comfy_mcp.gpu.monitor",
        "SESSION_IDLE_S": "http_sidecar.mcp.mount",
    }
)
"""Name → the module that has it and reads it each time."""


def set_constants(values: Mapping[str, float | str]) -> dict[str, float | str]:
    """What they were before."""
    before = {}
    for name, value in values.items():
        module = importlib.import_module(OWNERS[name])
        before[name] = getattr(module, name)
        setattr(module, name, value)
    return before


@contextmanager
def constants(**values: float) -> Iterator[None]:
    before = set_constants(values)
    try:
        yield
    finally:
        set_constants(before)
