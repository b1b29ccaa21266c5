"""What the machines are doing, and what to fix."""

import asyncio
from typing import TYPE_CHECKING

from comfy_mcp import __version__
from comfy_mcp.domain.spending import MILLION
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.gpu_views import gpu_result, in_short
from comfy_mcp.operations.memory import memory_problems
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import (
    EngineItem,
    GpuResult,
    NoParams,
    SpendingItem,
    StoreItem,
    SystemResult,
)

if TYPE_CHECKING:  # the surfaces build their schemas from this package: it must not load the database
    from comfy_mcp.driving.engine_reports import EngineReport

WAIT_S = 1.8
"""For a reading of the GPUs; then the last one is shown."""


async def gpu_status(context: OperationContext, params: NoParams) -> GpuResult:
    return gpu_result(await context.services.gpu.sample())


async def system_status(context: OperationContext, params: NoParams) -> SystemResult:
    """Everything at a glance. Never fails because an engine is down: that is what it reports."""
    services = context.services
    async with asyncio.TaskGroup() as group:
        reporting = group.create_task(services.engines.report())
        counting = group.create_task(services.engines.queues())
        sampling = group.create_task(services.gpu.latest(WAIT_S))
    reports, queues, sample = reporting.result(), counting.result(), sampling.result()
    info = services.store.info
    counts = await services.store.counts()
    gpu = gpu_result(sample)
    memory = await memory_problems(services, sample)
    set_aside = (
        [f"A damaged store was renamed to {info.set_aside}; its jobs are not shown."]
        if info.set_aside
        else []
    )
    return SystemResult(
        version=__version__,
        client=context.caller.client,
        engines=[_engine(report) for report in reports],
        jobs={status.value: count for status, count in counts.items()},
        foreign_prompts=sum(not each.ours for prompts in queues.values() for each in prompts),
        gpu=in_short(gpu),
        store=StoreItem(
            path=info.where,
            driver=info.driver,
            version=info.version,
            journal_mode=info.journal_mode,
            schema_revision=info.schema_revision,
            set_aside=str(info.set_aside) if info.set_aside else None,
        ),
        spending=await _spending(services),
        problems=[*services.engines.problems(reports), *gpu.problems, *memory, *set_aside],
    )


def _engine(report: "EngineReport") -> EngineItem:
    return EngineItem(
        id=report.engine,
        url=report.url,
        up=report.up,
        version=report.version,
        is_comfyui=report.is_comfyui,
        queue_remaining=report.queue_remaining,
        driven_by=report.driven_by,
        error=report.error,
        labels=list(report.labels),
        drained=report.drained,
        events=report.events,
        age_ms=None if report.age_s is None else round(report.age_s * 1000),
    )


async def _spending(services: Services) -> SpendingItem | None:
    budget = services.settings.budget
    if budget is None:
        return None
    today = await services.store.spent(at=services.now_ms())
    return SpendingItem(today=today / MILLION, budget=services.settings.cloud_budget)
