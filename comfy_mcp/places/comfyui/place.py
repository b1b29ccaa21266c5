"""One ComfyUI server (or the embedded engine, which speaks the same protocol) as a place."""

import asyncio
import math
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from comfy_mcp.domain.catalog import Model, OutputFile, OutputKind
from comfy_mcp.domain.errors import EngineBadAnswer, EngineFault, EngineUnreachable
from comfy_mcp.domain.events import EngineConnected, EngineDisconnected, EngineEvent
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.workflow_entries import WorkflowEntry
from comfy_mcp.places.comfyui.client import ComfyUIClient
from comfy_mcp.places.comfyui.followers import Followers
from comfy_mcp.places.comfyui.inputs import InputBringer
from comfy_mcp.places.comfyui.listener import Listener
from comfy_mcp.places.comfyui.node_list import NodeList
from comfy_mcp.places.comfyui.patience import Patience
from comfy_mcp.places.comfyui.transport import Answer
from comfy_mcp.places.protocol import (
    ASLEEP,
    ON_DEMAND,
    Accepted,
    Health,
    Hear,
    Locate,
    Picture,
    PromptView,
    PromptWhere,
    QueueView,
    Rejected,
    Silence,
    Trouble,
    UploadedFile,
)
from comfy_mcp.settings import EngineGroup, EngineSettings

REQUESTS_AT_ONCE = 8

STATS_S = 1.0
"""Who asks for the engine's health takes its version from what others were answered so recently."""

KEPT_FOLDER = "websocket"
"""Below the engine's output folder: the pictures of nodes that only send them."""

T = TypeVar("T")
R = TypeVar("R")


class ComfyUIPlace:
    """Implements `places.protocol.Place`. Close it with `close` when `run` has ended."""

    def __init__(
        self,
        engine: EngineSettings,
        settings: EngineGroup,
        *,
        on_event: Callable[[EngineEvent], None] | None = None,
        locate: Locate | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = engine.over(settings)
        self._on_demand = engine.on_demand
        self._wanted, self._unwanted = asyncio.Event(), asyncio.Event()
        self.want(not engine.on_demand)
        self.client = ComfyUIClient(engine, settings)
        self._inputs = InputBringer(self.client, locate)
        self.listener = Listener(self.client.transport, settings, probe=self.client.prompt_count)
        self._followers = Followers(self.client.transport, settings)
        self._settings = settings
        self._on_event = on_event
        self._clock = clock
        self._patience = Patience(engine.id, self.client.transport.contact, clock)
        self.node_list = NodeList(self.client, self._patience, clock)
        self._stats: Mapping[str, Any] = {}
        self._stats_at = -math.inf
        self._url = engine.url
        self._labels = frozenset(engine.labels)

    @property
    def engine(self) -> EngineId:
        return self.client.engine

    async def close(self) -> None:
        await self._patience.close()
        await self.client.close()

    async def run(self, hear: Hear) -> None:
        def pass_on(event: EngineEvent) -> None:
            if event.__class__ is EngineConnected:
                self.node_list.connected()
            if self._on_event is not None:
                self._on_event(event)
            hear(event)

        async with asyncio.TaskGroup() as tasks:
            listening = self._run_on_demand(pass_on) if self._on_demand else self.listener.run(pass_on)
            tasks.create_task(listening, name="listener")
            tasks.create_task(self._followers.run(pass_on), name="followers")

    async def _run_on_demand(self, hear: Hear) -> None:
        """Connected only while it is wanted."""
        while True:
            await self._wanted.wait()
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(self.listener.run(hear), name="listener")
                await self._unwanted.wait()
                listening.cancel()
            self.listener.trouble = None
            hear(EngineDisconnected(reason="it has no work, and is to be connected on demand only"))

    @property
    def on_demand(self) -> bool:
        return self._on_demand

    @property
    def asleep(self) -> bool:
        return not self._wanted.is_set()

    def want(self, wanted: bool) -> None:
        now, other = (self._wanted, self._unwanted) if wanted else (self._unwanted, self._wanted)
        now.set()
        other.clear()

    def _require_awake(self) -> None:
        """Raises EngineUnreachable: a question would start it."""
        if self.asleep:
            raise EngineUnreachable(f"Engine {self.engine} {ASLEEP}.", next_step=ON_DEMAND)

    @property
    def url(self) -> str:
        return self._url

    @property
    def labels(self) -> frozenset[str]:
        return self._labels

    @property
    def stream_id(self) -> str:
        return self.listener.client_id

    def follow(self, stream_ids: Collection[str]) -> None:
        self._followers.want({each for each in stream_ids if each != self.listener.client_id})

    def recall(self, prompt_id: PromptId, reference: str | None) -> None:
        """Nothing: the engine knows a prompt by the id that it was sent with."""

    async def prepare(self, graph: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self._inputs.brought(graph)

    async def submit(
        self, prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None = None
    ) -> Accepted | Rejected:
        return await self.client.post_prompt(
            graph,
            prompt_id=prompt_id,
            client_id=self.listener.client_id,
            extra_data={} if extra_data is None else self._with_key(extra_data),
        )

    async def keep(self, prompt_id: PromptId, pictures: Sequence[Picture]) -> Sequence[OutputFile]:
        """Into the engine's output folder, where every process and every machine finds them."""
        return [
            await self._keep(f"{prompt_id}_{number:05}.png", picture)
            for number, picture in enumerate(pictures, start=1)
        ]

    async def _keep(self, filename: str, picture: Picture) -> OutputFile:
        kept = await self.client.upload_image(
            filename,
            _once(picture.data),
            size=len(picture.data),
            folder_type="output",
            subfolder=KEPT_FOLDER,
        )
        return OutputFile(
            kind=OutputKind.IMAGE,
            filename=kept.name,
            subfolder=kept.subfolder,
            folder_type=kept.folder_type,
            node=picture.node,
        )

    async def lookup(self, prompt_ids: Sequence[PromptId]) -> Mapping[PromptId, PromptView]:
        """History, then the queue for those without an entry, then history again for those in neither.

        A prompt only moves pending → running → history, each in one step of the engine, so one that moves
        between two reads is found by the later one. ABSENT: no read found it; a POST in flight is absent too.
        UNREADABLE: its history can't be read, and the engine does speak the protocol, for its queue can.
        """
        views = await self._histories(prompt_ids)
        missing = [each for each in prompt_ids if views[each].where is not PromptWhere.FINISHED]
        if not missing:
            return views
        queue = await self.client.queue()
        running, pending = set(queue.running), set(queue.pending)
        gone: list[PromptId] = []
        for prompt_id in missing:
            if prompt_id in running:
                views[prompt_id] = PromptView(where=PromptWhere.RUNNING)
            elif prompt_id in pending:
                views[prompt_id] = PromptView(where=PromptWhere.PENDING, engine_idle=not running)
            elif views[prompt_id].where is PromptWhere.ABSENT:
                gone.append(prompt_id)
        return views | await self._histories(gone)

    async def cancel(self, prompt_id: PromptId) -> None:
        """By the jobs of the engine, where it has them. Else delete, then interrupt if it runs: a prompt only
        moves towards the interrupt."""
        if await self.client.cancel_job(prompt_id):
            return
        await self.client.delete_pending([prompt_id])
        # An engine before 0.3.56 ignores the id and ends whatever runs: ask only when it is this one.
        if prompt_id in (await self.client.queue()).running:
            await self.client.interrupt(prompt_id)

    async def free(self) -> None:
        await self.client.free()

    async def reconnect(self) -> None:
        await self.listener.reconnect()

    async def sizes(self, files: Sequence[OutputFile]) -> Mapping[OutputFile, int]:
        """Best effort: files that the engine does not have, or does not answer for, are left out."""
        with_names = [file for file in dict.fromkeys(files) if file.filename]
        sizes = await _each(with_names, self._size)
        return {file: size for file, size in sizes.items() if size is not None}

    @property
    def trouble(self) -> Trouble | None:
        """Of the stream and the requests that keep it; where nobody runs it, of the last node list."""
        fault = self.node_list.fault
        of_nodes = (
            None
            if fault is None
            else Trouble(cause=fault.sentence, fix=fault.next_step, blocks=not self.listener.connected)
        )
        known = self.listener.trouble
        return known if known is not None and (known.blocks or of_nodes is None) else of_nodes

    @property
    def silence(self) -> Silence | None:
        return self.client.transport.contact.silence()

    @property
    def known_age_s(self) -> float | None:
        return self.client.transport.contact.age()

    @property
    def known_nodes(self) -> ObjectInfo | None:
        return self.node_list.known

    @property
    def nodes_now(self) -> ObjectInfo | None:
        return None if self.asleep else self.node_list.fresh

    @property
    def known_nodes_age_s(self) -> float | None:
        return self.node_list.age_s

    async def nodes(self, *, max_age_s: float | None = None) -> ObjectInfo:
        if self.asleep and (known := self.node_list.known) is not None:
            return known
        self._require_awake()
        return await self.node_list.read(max_age_s=max_age_s)

    def view(self, file: OutputFile, *, byte_range: str | None = None) -> AbstractAsyncContextManager[Answer]:
        return self.client.view(file, byte_range=byte_range)

    async def read_file(self, file: OutputFile, *, limit: int) -> tuple[bytes, int] | None:
        return await self.client.read_file(file, limit=limit)

    async def upload(
        self, filename: str, content: AsyncIterable[bytes], *, subfolder: str, overwrite: bool
    ) -> UploadedFile:
        return await self.client.upload_image(filename, content, subfolder=subfolder, overwrite=overwrite)

    async def upload_limit(self) -> int | None:
        return await self.client.upload_limit()

    async def model_folders(self) -> Sequence[str]:
        self._require_awake()
        return await self._patience.ask("models", self.client.model_folders)

    async def experiment_models(self, folder: str) -> Sequence[Model]:
        self._require_awake()
        return await self._patience.ask(("models", folder), lambda: self.client.experiment_models(folder))

    async def templates(self) -> Sequence[WorkflowEntry]:
        self._require_awake()
        return await self._patience.ask("templates", self.client.templates)

    async def template(self, name: str) -> Any:
        return await self._patience.ask(("template", name), lambda: self.client.template(name))

    async def saved_workflows(self) -> Sequence[WorkflowEntry]:
        self._require_awake()
        return await self._patience.ask("saved", self.client.saved_workflows)

    async def saved_workflow(self, name: str) -> Any:
        return await self._patience.ask(("saved", name), lambda: self.client.saved_workflow(name))

    async def queue(self) -> QueueView:
        self._require_awake()
        return await self.client.queue()

    async def health(self) -> Health:
        self._require_awake()
        prompts = await self.client.prompt_count()
        if self._clock() - self._stats_at > STATS_S:
            await self.system_stats()
        system = self._stats.get("system")
        system = system if isinstance(system, dict) else {}
        version = system.get("comfyui_version")
        self.node_list.answers()
        return Health(
            version=str(version) if version is not None else None,
            is_comfyui="embedded_engine" not in system,
            prompts=prompts,
        )

    async def system_stats(self) -> Mapping[str, Any]:
        self._require_awake()
        self._stats = await self.client.system_stats()
        self._stats_at = self._clock()
        return self._stats

    def _with_key(self, extra_data: ExtraData) -> Mapping[str, Any]:
        """The only code that reads a Comfy key from the settings."""
        spender = extra_data.spender
        key = None if spender is None else self._settings.comfy_org_key_of(spender)
        return {**extra_data.values, **({} if key is None else {"api_key_comfy_org": key})}

    async def _histories(self, prompt_ids: Sequence[PromptId]) -> dict[PromptId, PromptView]:
        """FINISHED, ABSENT or UNREADABLE. A full GET /history can be 10 MB: one by one."""
        return await _each(prompt_ids, self._history)

    async def _history(self, prompt_id: PromptId) -> PromptView:
        try:
            result = await self.client.history(prompt_id)
        except EngineBadAnswer as fault:
            return PromptView(where=PromptWhere.UNREADABLE, fault=fault.message)
        if result is None:
            return PromptView(where=PromptWhere.ABSENT)
        return PromptView(where=PromptWhere.FINISHED, result=result)

    async def _size(self, file: OutputFile) -> int | None:
        try:
            return await self.client.view_size(file)
        except EngineFault:
            return None


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _each(items: Sequence[T], ask: Callable[[T], Awaitable[R]]) -> dict[T, R]:
    """`ask` for each item, REQUESTS_AT_ONCE at a time. The first EngineFault is raised as itself."""
    if len(items) == 1:
        return {items[0]: await ask(items[0])}
    answers: dict[T, R] = {}
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            answers[item] = await ask(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(REQUESTS_AT_ONCE, len(items))):
                tasks.create_task(work())
    except* EngineFault as group:
        fault = group.exceptions[0]
    else:
        return answers
    raise fault
