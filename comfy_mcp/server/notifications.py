"""From the event log and the GPU monitor to resource notifications: one pair of tasks per process."""

import asyncio
from collections.abc import Iterable

import structlog
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated

from comfy_mcp.domain.errors import BridgeError
from comfy_mcp.domain.events import (
    FINAL_EVENTS,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobProgressed,
    JobQueued,
    StoredEvent,
)
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.shapes import WorkflowsResult
from comfy_mcp.operations.views import WORKFLOW_URI
from comfy_mcp.server.bus import ResourceBus
from comfy_mcp.server.pacing import Pacing

log = structlog.get_logger(__name__)

WORKFLOWS = "comfy://workflows"
QUEUE = "comfy://queue"
GPU = "comfy://gpu"
RESOURCE_LIST = "resources/list"
"""Paced like a URI, published as a list change."""

GPU_PAUSE_S = 1.0
"""At most one notification about the GPUs in this time; what changed meanwhile is in the next."""

RESYNC_JOBS = 200
"""After an overflow these newest jobs are announced; a client that follows an older one reads it again."""


async def publish_events(bridge: Bridge, caller: Caller, bus: ResourceBus) -> None:
    """Run until cancelled."""
    if bridge.metrics is not None:
        bridge.metrics.count_streams("mcp_listen", lambda: bus.streams)
        bridge.metrics.count_streams("mcp_session", lambda: bus.sessions)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publish_gpu_changes(bridge, bus), name="gpu-changes")
        await _publish_job_events(bridge, caller, bus)


async def publish_gpu_changes(bridge: Bridge, bus: ResourceBus) -> None:
    """While somebody follows comfy://gpu: real changes only (domain/gpu_changes.py)."""
    with bridge.gpu_changes(lambda: bus.is_followed(GPU)) as changes:
        while True:
            await changes.next()
            await bus.publish(ResourceUpdated(uri=GPU))
            await asyncio.sleep(GPU_PAUSE_S)


async def _publish_job_events(bridge: Bridge, caller: Caller, bus: ResourceBus) -> None:
    pacing = Pacing()
    clock = asyncio.get_running_loop().time
    with bridge.feed.follow(caller) as reader:
        while True:
            due = pacing.next_due()
            lost = False
            try:
                async with asyncio.timeout_at(due):
                    events, lost = await reader.newest()
                    if bus.idle:  # no subscriber: a new one reads first
                        continue
                    note_events(pacing, events)
                    await _note_batches(bridge, pacing, events)
            except TimeoutError:
                pass
            if lost:
                await _resync(bridge, caller, pacing)
            for uri in pacing.take(clock()):
                await bus.publish(
                    ResourcesListChanged() if uri == RESOURCE_LIST else ResourceUpdated(uri=uri)
                )


def note_events(pacing: Pacing, events: Iterable[StoredEvent]) -> None:
    """Which resources each event changed."""
    for stored in events:
        event = stored.event
        final = isinstance(event, FINAL_EVENTS)
        pacing.changed(f"{WORKFLOW_URI}{event.job_id}", final=final)
        if isinstance(event, JobProgressed):
            continue
        pacing.changed(QUEUE)
        pacing.changed(WORKFLOWS)
        match event:
            case JobQueued():
                pacing.changed(RESOURCE_LIST)
            case (
                JobCompleted(output_count=count)
                | JobFailed(output_count=count)
                | JobCancelled(output_count=count)
            ) if count:
                pacing.changed(RESOURCE_LIST)
            case _:
                pass


async def _note_batches(bridge: Bridge, pacing: Pacing, events: Iterable[StoredEvent]) -> None:
    """A batch is a resource too, by its id."""
    try:
        batches = await bridge.feed.batches_of(events)
    except BridgeError as error:
        log.warning("batches_not_read", code=error.code.value)
        return
    for batch, final in batches.items():
        pacing.changed(f"{WORKFLOW_URI}{batch}", final=final)


async def _resync(bridge: Bridge, caller: Caller, pacing: Pacing) -> None:
    """Events were lost: announce everything that may have changed."""
    for uri in (QUEUE, WORKFLOWS, RESOURCE_LIST):
        pacing.changed(uri)
    try:
        result: WorkflowsResult = await bridge.call("list_workflows", {"limit": RESYNC_JOBS}, caller=caller)
    except BridgeError as error:
        log.warning("resync_failed", code=error.code.value)
        return
    for item in result.workflows:
        for each in filter(None, (item.workflow_id, item.batch)):
            pacing.changed(f"{WORKFLOW_URI}{each}", final=item.completion_time is not None)
