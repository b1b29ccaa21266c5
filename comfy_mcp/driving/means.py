"""What everything that drives an engine works with, handed down as one."""

from collections.abc import Callable
from dataclasses import dataclass

from comfy_mcp.driving.clock import Clock
from comfy_mcp.gpu import GpuUsage
from comfy_mcp.settings import Settings
from comfy_mcp.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """`gpu` measures what jobs take; `new_id` gives ids that ComfyUI accepts as a prompt_id."""

    store: Store
    settings: Settings
    clock: Clock
    new_id: Callable[[], str]
    gpu: GpuUsage
