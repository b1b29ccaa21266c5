"""What everything that drives an engine works with, handed down as one."""

from collections.abc import Callable
from dataclasses import dataclass, field

from comfy_mcp.domain.ids import LOCAL
from comfy_mcp.driving.checked import CheckedGraphs
from comfy_mcp.driving.clock import Clock
from comfy_mcp.driving.concerns import Concerns
from comfy_mcp.driving.fleet import Fleet
from comfy_mcp.driving.learning import Durations
from comfy_mcp.gpu import GpuUsage
from comfy_mcp.settings import Settings
from comfy_mcp.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """`gpu` measures what jobs take; `new_id` gives ids that ComfyUI accepts as a prompt_id; `checked` are
    graphs that this process has just checked; `durations` are those of nodes; `fleet` is what its engines
    know of each other; `concerns` are whom an end matters to; `lane` is whose jobs are driven."""

    store: Store
    settings: Settings
    clock: Clock
    new_id: Callable[[], str]
    gpu: GpuUsage
    durations: Durations
    checked: CheckedGraphs = field(default_factory=CheckedGraphs)
    fleet: Fleet = field(default_factory=Fleet)
    concerns: Concerns = field(default_factory=Concerns)
    lane: str = LOCAL
