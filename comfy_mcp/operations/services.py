"""What operations work with, in one process. No surface imports this: it gets a Bridge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_mcp.settings import Settings

if TYPE_CHECKING:  # the surfaces build their schemas from this package: it must not load the database
    from comfy_mcp.checking.checker import Checker
    from comfy_mcp.driving.engines import Engines
    from comfy_mcp.gpu import GpuMonitor
    from comfy_mcp.library import InputFiles, ModelLibrary, OutputFiles, WorkflowFiles, WorkflowLibrary
    from comfy_mcp.library.assets import Assets
    from comfy_mcp.library.links import Links
    from comfy_mcp.library.saving import Saver
    from comfy_mcp.metrics import Metrics
    from comfy_mcp.operations.feed import Feed, Hub
    from comfy_mcp.operations.finder import Finder
    from comfy_mcp.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything below the operations, composed by the runtime. Surfaces get a Bridge instead."""

    settings: Settings
    store: Store
    hub: Hub
    feed: Feed
    engines: Engines
    models: ModelLibrary
    outputs: OutputFiles
    input_files: InputFiles
    assets: Assets
    saver: Saver
    links: Links
    workflow_files: WorkflowFiles
    workflows: WorkflowLibrary
    finder: Finder
    checker: Checker
    gpu: GpuMonitor
    metrics: Metrics | None
    now_ms: Callable[[], int]
    new_id: Callable[[], str]
