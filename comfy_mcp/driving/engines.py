"""The engines of this process: what they can do, how they are, and who drives them."""

import asyncio
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from comfy_mcp.domain.errors import EngineFault
from comfy_mcp.domain.events import EngineEvent
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.driving.driver import Driver
from comfy_mcp.driving.hub import Hub
from comfy_mcp.driving.means import Means
from comfy_mcp.driving.memory_gate import Sampling
from comfy_mcp.places.comfyui.answers import QueueView, UploadedFile
from comfy_mcp.places.comfyui.place import ComfyUIPlace
from comfy_mcp.settings import EngineSettings

log = structlog.get_logger(__name__)

DOWN_TTL_S = 2.0
"""How long a failed question is remembered, so that a submit does not wait for a dead engine each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """One engine now. `driven_by` is "this process", "another process" or None; `fix` what to do."""

    engine: EngineId
    url: str
    up: bool
    version: str | None = None
    is_comfyui: bool | None = None
    queue_remaining: int | None = None
    driven_by: str | None = None
    error: str | None = None
    fix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePrompt:
    """A prompt at an engine. If not `ours`, somebody gave it to ComfyUI itself: it is shown and counted, and
    never touched."""

    prompt_id: PromptId
    running: bool
    ours: bool


@dataclass(slots=True, kw_only=True)
class _Known:
    """The last answer to /object_info, parsed once per answer; or the fault and until when it counts."""

    raw: Mapping[str, Any] | None = None
    info: ObjectInfo | None = None
    fault: EngineFault | None = None
    down_until: float = 0.0


class Engines:
    """Places and their drivers. With `drive` False this process only looks: it never asks for a lease."""

    def __init__(
        self,
        means: Means,
        *,
        holder: str,
        drive: bool,
        on_event: Callable[[EngineId, EngineEvent], None] = lambda _engine, _event: None,
        sampling: Sampling | None = None,
    ) -> None:
        """`on_event` hears what the engines say that this process drives. It must be quick and not raise.
        `sampling` says what the GPUs do; nobody asks before `run`."""
        self._store = means.store
        self._settings = means.settings
        self._clock = means.clock
        self._holder = holder
        self._places = {
            engine.id: ComfyUIPlace(engine, means.settings, on_event=partial(on_event, engine.id))
            for engine in means.settings.engines
        }
        self._known = {engine.id: _Known() for engine in means.settings.engines}
        self._drivers = [
            Driver(
                place,
                means,
                holder=holder,
                node_list=partial(self._node_list, engine),
                sampling=sampling,
            )
            for engine, place in self._places.items()
            if drive
        ]

    @property
    def places(self) -> Mapping[EngineId, ComfyUIPlace]:
        return self._places

    async def run(self, hub: Hub) -> None:
        """Drive what can be driven until cancelled."""
        for driver in self._drivers:
            hub.listen(driver.hear)
        async with asyncio.TaskGroup() as group:
            for driver in self._drivers:
                group.create_task(driver.run(), name="driver")

    async def close(self) -> None:
        for place in self._places.values():
            await place.close()

    def work_arrived(self) -> None:
        """A job was written by this process: the drivers need not wait for the log to tell them."""
        for driver in self._drivers:
            driver.work_arrived()

    def foreign_ahead(self, engine: EngineId | None = None) -> int:
        """Prompts of others that a job waits for too: on the engine that has it, or the least of any.

        Only what this process's drivers know anyway; 0 where another process drives.
        """
        known = [
            driver.foreign
            for driver in self._drivers
            if driver.foreign is not None and engine in {None, driver.engine}
        ]
        return min(known, default=0)

    async def queues(self) -> Mapping[EngineId, Sequence[EnginePrompt]]:
        """What each engine runs and holds, in its order, asked now. One that does not answer is left out."""
        views: dict[EngineId, QueueView] = {}

        async def ask(engine: EngineId, place: ComfyUIPlace) -> None:
            try:
                async with asyncio.timeout(self._settings.connect_timeout_s):
                    views[engine] = await place.client.queue()
            except (EngineFault, TimeoutError) as fault:
                log.debug("queue_not_read", engine=engine, error=str(fault))

        async with asyncio.TaskGroup() as group:
            for engine, place in self._places.items():
                group.create_task(ask(engine, place))
        ours = await self._store.own_prompts(
            [prompt_id for view in views.values() for prompt_id in (*view.running, *view.pending)]
        )
        return {
            engine: [
                EnginePrompt(prompt_id=prompt_id, running=running, ours=prompt_id in ours)
                for prompts, running in ((views[engine].running, True), (views[engine].pending, False))
                for prompt_id in prompts
            ]
            for engine in self._places
            if engine in views
        }

    async def object_info(self, *, max_age_s: float | None = None) -> ObjectInfo | None:
        """The node list of the first engine that answers, None when none does.

        `max_age_s` asks for a fresher one than the setting `object_info_ttl_s`.
        """
        for engine, place in self._places.items():
            known = self._known[engine]
            if known.fault is not None and self._clock.monotonic() < known.down_until:
                continue
            try:
                raw = await place.object_info(max_age_s=max_age_s)
            except EngineFault as fault:
                known.fault = fault
                known.down_until = self._clock.monotonic() + DOWN_TTL_S
                continue
            known.fault = None
            if raw is not known.raw:
                known.raw, known.info = raw, await asyncio.to_thread(ObjectInfo.parse, raw)
            return known.info
        return None

    async def upload(
        self, filename: str, content: AsyncIterable[bytes], *, subfolder: str, overwrite: bool
    ) -> UploadedFile:
        """Into the input folder of the first engine that answers, once. Raises EngineFault."""
        places = list(self._places.values())
        for place in places[:-1]:
            try:
                await place.client.prompt_count()  # a stream can't be sent a second time: ask first
            except EngineFault:
                continue
            break
        else:
            place = places[-1]
        return await place.client.upload_image(filename, content, subfolder=subfolder, overwrite=overwrite)

    def submit_warnings(self) -> tuple[str, ...]:
        """What the submitter should know: after `object_info` found no engine."""
        faults = [known.fault for known in self._known.values()]
        if any(fault is None for fault in faults):
            return ()
        urls = ", ".join(engine.url for engine in self._settings.engines)
        return (f"No ComfyUI answers at {urls}. The workflow was not checked and waits until one answers.",)

    async def report(self) -> Sequence[EngineReport]:
        """How each engine is, asked now. Never raises for an engine that is down."""
        reports: dict[EngineId, EngineReport] = {}

        async def ask(engine: EngineSettings) -> None:
            reports[engine.id] = await self._report_one(engine)

        async with asyncio.TaskGroup() as group:
            for engine in self._settings.engines:
                group.create_task(ask(engine))
        return [reports[engine.id] for engine in self._settings.engines]

    async def _report_one(self, engine: EngineSettings) -> EngineReport:
        driven_by = await self._driven_by(engine.id)
        client = self._places[engine.id].client
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                stats = await client.system_stats()
                remaining = await client.prompt_count()
        except (EngineFault, TimeoutError) as fault:
            return EngineReport(
                engine=engine.id,
                url=engine.url,
                up=False,
                driven_by=driven_by,
                error=str(fault) or f"no answer within {self._settings.connect_timeout_s} s",
                fix=f"Start ComfyUI at {engine.url}, or set COMFYUI_URL to where it runs.",
            )
        system = stats.get("system")
        system = system if isinstance(system, dict) else {}
        version = system.get("comfyui_version")
        nobody = driven_by is None
        return EngineReport(
            engine=engine.id,
            url=engine.url,
            up=True,
            version=str(version) if version is not None else None,
            is_comfyui="embedded_engine" not in system,
            queue_remaining=remaining,
            driven_by=driven_by,
            fix="No process drives the engine: start `comfy-bridge mcp` or use `comfy-bridge run`."
            if nobody
            else None,
        )

    def _node_list(self, engine: EngineId) -> ObjectInfo | None:
        return self._known[engine].info

    async def _driven_by(self, engine: EngineId) -> str | None:
        lease = await self._store.lease_of(engine)
        if lease is None or not lease.live or not lease.holder:
            return None
        return "this process" if lease.holder == self._holder else "another process"
