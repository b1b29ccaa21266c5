"""The composition root: builds everything below the surfaces, runs it, and takes it down in order."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from comfy_mcp import __version__
from comfy_mcp.checking.checker import Checker
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.driving.clock import Clock, system_clock
from comfy_mcp.driving.engines import Engines
from comfy_mcp.driving.fleet import Fleet
from comfy_mcp.driving.housekeeping import Sweeper, end_overdue_jobs
from comfy_mcp.driving.lanes import CloudRunner, Lanes
from comfy_mcp.driving.learning import Durations
from comfy_mcp.driving.means import Means
from comfy_mcp.driving.roster import Roster
from comfy_mcp.gpu import GpuMonitor, GpuUsage
from comfy_mcp.library import InputFiles, ModelLibrary, OutputFiles, WorkflowFiles, WorkflowLibrary
from comfy_mcp.library.assets import Assets
from comfy_mcp.library.links import Links
from comfy_mcp.library.saving import Saver
from comfy_mcp.library.spool import Spool
from comfy_mcp.logs import hide_secrets_of
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.checking import moment_of
from comfy_mcp.operations.deliveries import Sender
from comfy_mcp.operations.feed import Feed, Hub
from comfy_mcp.operations.finder import Finder
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.submitting import IDEMPOTENCY_TTL_S
from comfy_mcp.places.cloud.kept import KeptOutputs
from comfy_mcp.places.comfyui.place import ComfyUIPlace
from comfy_mcp.places.downloads import Downloads
from comfy_mcp.places.pool import Pool
from comfy_mcp.places.posting import Poster
from comfy_mcp.places.protocol import Place
from comfy_mcp.settings import EngineSettings, Settings
from comfy_mcp.store import Store
from comfy_mcp.watchdog import watching

if TYPE_CHECKING:
    from comfy_mcp.metrics import Metrics

RETENTION_PAUSE_S = 60.0
"""Between two deletions of old jobs, each of which is a few statements."""

log = structlog.get_logger(__name__)


def new_id() -> str:
    """A lowercase hyphenated UUID: what ComfyUI 0.25+ demands of a prompt_id."""
    return str(uuid4())


@contextlib.asynccontextmanager
async def open_bridge(
    settings: Settings, *, drive: bool = True, counted: bool = True
) -> AsyncIterator[Bridge]:
    """What surfaces work with, over a runtime that is open for the time of the context. See open_runtime."""
    async with open_runtime(settings, drive=drive, counted=counted) as services:
        yield Bridge(services)


@contextlib.asynccontextmanager
async def open_runtime(
    settings: Settings, *, drive: bool = True, counted: bool = True, clock: Clock | None = None
) -> AsyncIterator[Services]:
    """Services over an open store, with their tasks running for the time of the context.

    `drive` False: this process never asks for an engine's lease. `counted` False: nobody can read metrics, so
    there are none. Raises StoreFault when the store can't be
    opened. An engine that is down is no error. On exit the tasks end, leases are given back, and prompts
    that run go on in ComfyUI, to be re-attached by whoever drives it next.
    """
    clock = clock or system_clock()
    metrics = _metrics(clock) if counted else None
    async with contextlib.AsyncExitStack() as stack:
        store = await _opened_store(settings, metrics)
        stack.push_async_callback(store.close)
        hub = await _opened_hub(store, metrics)
        pool: Pool[Place] = Pool()
        files = _files(settings, store, pool)
        kept = KeptOutputs(settings.kept_outputs_path)
        usage = GpuUsage()
        gpu = GpuMonitor(settings, engines=pool, now_ms=clock.now_ms, usage=usage)
        stack.push_async_callback(gpu.aclose)
        fleet = Fleet(clock.monotonic)
        means = Means(
            store=store,
            settings=settings,
            clock=clock,
            new_id=new_id,
            gpu=usage,
            durations=Durations(store, clock.monotonic),
            fleet=fleet,
        )
        roster = _roster(means, pool, files, metrics, gpu, drive=drive)
        stack.push_async_callback(roster.close)
        lanes = _lanes(means, files, kept, holder=roster.holder, drive=drive)
        stack.push_async_callback(lanes.close)
        engines = Engines(roster, lanes, means)
        checker = Checker(lambda: moment_of(clock.now_ms()))
        stack.push_async_callback(checker.aclose)
        services = Services(
            settings=settings,
            store=store,
            hub=hub,
            feed=Feed(hub, store, foreign_ahead=engines.foreign_ahead),
            engines=engines,
            models=ModelLibrary(settings, timeout_s=settings.request_timeout_s, engines=pool, hashes=store),
            outputs=files.outputs,
            input_files=files.inputs,
            assets=files.assets,
            saver=Saver(files.workflows.folders, files.outputs),
            links=Links(settings.link_key_path, settings.public_url, now_ms=clock.now_ms),
            workflow_files=files.workflows,
            workflows=WorkflowLibrary(settings, timeout_s=settings.request_timeout_s, engines=pool),
            checker=checker,
            finder=Finder(checker),
            gpu=gpu,
            metrics=metrics,
            now_ms=clock.now_ms,
            new_id=new_id,
        )
        sweeper = Sweeper(store, settings, clock, holder=roster.holder) if drive else None
        watched = watching() if metrics is None else watching(metrics.loop_stood)
        async with watched, _tasks(services, clock, kept, sweeper):
            yield services


def _metrics(clock: Clock) -> "Metrics":
    from comfy_mcp.metrics import Metrics  # with its library it takes 1 MB

    return Metrics(engines=(), version=__version__, now_ms=clock.now_ms)


async def _opened_store(settings: Settings, metrics: "Metrics | None") -> Store:
    if metrics is None:
        return await Store.open(settings)
    return await Store.open(settings, on_read=metrics.store_read, on_write=metrics.store_wrote)


async def _opened_hub(store: Store, metrics: "Metrics | None") -> Hub:
    """It tells the metrics of what happens; they count who listens."""
    hub = Hub(store) if metrics is None else Hub(store, on_drop=metrics.event_dropped)
    if metrics is not None:
        hub.listen(metrics.hear)
        metrics.count_subscribers(lambda: hub.subscribers)
        loop = asyncio.get_running_loop()
        metrics.count_tasks(lambda: len(asyncio.all_tasks(loop)))
    await hub.open()
    return hub


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    outputs: OutputFiles
    workflows: WorkflowFiles
    assets: Assets
    inputs: InputFiles


def _files(settings: Settings, store: Store, pool: Pool[Place]) -> _Files:
    outputs = OutputFiles(settings, engines=pool)
    workflows = WorkflowFiles(settings, timeout_s=settings.request_timeout_s)
    spool = Spool(settings.inputs_path)
    assets = Assets(settings.assets_path, spool, limit=settings.max_upload_bytes)
    inputs = InputFiles(
        spool,
        workflows.folders,
        outputs,
        find_output=store.get_output,
        outputs_of=store.outputs_of,
        download=Downloads(private=settings.private_urls),
        kept=assets.kept,
        limit=settings.max_upload_bytes,
        timeout_s=settings.request_timeout_s,
    )
    return _Files(outputs=outputs, workflows=workflows, assets=assets, inputs=inputs)


def _roster(
    means: Means, pool: Pool[Place], files: _Files, metrics: "Metrics | None", gpu: GpuMonitor, *, drive: bool
) -> Roster:
    """The engines, each a place."""

    def make(engine: EngineSettings) -> Place:
        return ComfyUIPlace(
            engine,
            means.settings,
            on_event=None if metrics is None else partial(metrics.hear_engine, engine.id),
            locate=files.inputs.locate,
        )

    def changed(engines: Sequence[EngineSettings]) -> None:
        hide_secrets_of(engines)
        if metrics is not None:
            metrics.know_engines([engine.id for engine in engines])
        means.gpu.know(engines)
        files.outputs.know(engines)

    holder = f"{os.getpid()}-{uuid4().hex}"
    return Roster(pool, means, make, holder=holder, drive=drive, sampling=gpu.sample, changed=changed)


def _lanes(means: Means, files: _Files, kept: KeptOutputs, *, holder: str, drive: bool) -> Lanes:
    """The services that run workflows elsewhere, each a place."""
    settings = means.settings

    def place(each: EngineSettings) -> CloudRunner:
        from comfy_mcp.places.cloud.opening import open_place  # most processes have no service

        return open_place(each, settings, kept, files.inputs.locate)

    hide_secrets_of(settings.lanes)
    return Lanes([place(each) for each in settings.lanes], means, holder=holder, drive=drive)


@contextlib.asynccontextmanager
async def _tasks(
    services: Services, clock: Clock, kept: KeptOutputs, sweeper: Sweeper | None
) -> AsyncIterator[None]:
    """One TaskGroup owns every task. What fails inside the context comes out as itself. Without a sweeper, as
    of a command that only asks, the process does nothing for others."""
    error: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(services.hub.run(), name="hub"),
            group.create_task(services.engines.run(services.hub), name="engines"),
            group.create_task(services.models.run(), name="models"),
            group.create_task(services.gpu.run(), name="gpu"),
        ]
        if services.metrics is not None:
            from comfy_mcp.operations.metrics_refresh import keep_gauges_fresh

            tasks.append(group.create_task(keep_gauges_fresh(services, services.metrics), name="gauges"))
        if sweeper is not None:
            elected, poster = sweeper.elected, Poster(private=services.settings.private_urls)
            tasks += [
                group.create_task(sweeper.run(), name="election"),
                group.create_task(end_overdue_jobs(services.store, clock, elected), name="deadlines"),
                group.create_task(_prune(services, elected), name="retention"),
                group.create_task(_prune_files(services, kept), name="retention of files"),
                group.create_task(Sender(services, poster, elected).run(), name="webhooks"),
            ]
        try:
            yield
        except Exception as raised:  # noqa: BLE001 - re-raised below, outside the group, unwrapped
            error = raised
        finally:
            for task in tasks:
                task.cancel()
    if error is not None:
        raise error


async def _prune(services: Services, elected: asyncio.Event) -> None:
    settings = services.settings
    while True:
        await elected.wait()
        try:
            gone = await services.store.prune(
                now=services.now_ms(),
                retention_days=settings.retention_days,
                retention_jobs=settings.retention_jobs,
            )
            await services.store.forget_idempotency_keys(before=services.now_ms() - IDEMPOTENCY_TTL_S * 1000)
        except StoreFault as fault:
            log.warning("retention_failed", code=fault.code.value, error=str(fault))
        else:
            if gone:
                log.info("jobs_forgotten", count=gone)
        await asyncio.sleep(RETENTION_PAUSE_S)


async def _prune_files(services: Services, kept: KeptOutputs) -> None:
    """Those in this process's state folder, which others need not share."""
    while True:
        try:
            await services.input_files.sweep(services.store.graphs_with)
            await kept.sweep(services.store.own_prompts)
        except StoreFault as fault:
            log.warning("files_not_swept", code=fault.code.value, error=str(fault))
        await asyncio.sleep(RETENTION_PAUSE_S)
