"""What the house asks of a place: one engine where jobs can run, as one object.

A `Runner` runs prompts: that is all that a driver needs. A `Place` has the files, models and the state of the
same engine too. `library` and `gpu` say in protocols of their own what they need of it.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from comfy_mcp.domain.catalog import Model, OutputFile
from comfy_mcp.domain.errors import EngineUnreachable
from comfy_mcp.domain.events import EngineEvent, JobFailure
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.ids import EngineId, NodeId, PromptId
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.prompt import PromptResult
from comfy_mcp.domain.workflow_entries import WorkflowEntry

Hear = Callable[[EngineEvent], None]
"""Gets each event where it was read, on the loop. Quick, and raises nothing but defects."""


START_IT = "Start ComfyUI"
ITS_URL = "its URL (COMFYUI_URL, or `url` in the file of engines)"
CHECK_IT_RUNS = f"{START_IT}, or correct {ITS_URL}; `comfy-bridge doctor` shows which engines answer."
"""The next step where nothing answers at all."""
ADD_ONE = "Add an engine: `comfy-bridge engines add NAME URL`."
"""The next step where there is no engine."""


ASK_S = 1.5
"""A person or an agent who asks waits no longer for an engine that says nothing."""


HANGS_S = 30.0
"""An engine that says nothing for this long may have to be restarted. Sooner it may load a model."""


def advice_for(silent_s: float, url: str | None = None) -> str:
    """What to do about an engine that accepts connections and says nothing."""
    if silent_s < HANGS_S:
        return "It may load a model: ask again in half a minute."
    return f"If ComfyUI hangs{f' at {url}' if url else ''}, restart it."


class NotAnswered(EngineUnreachable):
    """It has accepted the connection, and said nothing for ASK_S. What it had said before may be true."""


ASLEEP, ON_DEMAND = "sleeps until there is work", "Submit a workflow: that starts it."
"""Of an engine that is connected on demand."""


class PromptWhere(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    ABSENT = "absent"  # deleted, evicted from the history, or the engine was restarted
    UNREADABLE = "unreadable"  # not in the queue, and what the history says of it can't be read


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptView:
    """Where a prompt is now. `result` is set for FINISHED only, and `fault` for UNREADABLE.

    `engine_idle`: it is PENDING and the engine runs nothing. `reference`: the place's own id of the prompt,
    where only this look found it.
    """

    where: PromptWhere
    result: PromptResult | None = None
    fault: str | None = None
    engine_idle: bool = False
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The engine queued it. `dropped` names output nodes whose branch was refused, with the reason.

    `reference`: the place's own id of the prompt, where it accepts none from outside.
    """

    dropped: Mapping[NodeId, str]
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The engine refused the whole graph (HTTP 400) and queued nothing."""

    failure: JobFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """The prompts at an engine, whoever sent them, `pending` in the order of execution."""

    running: tuple[PromptId, ...]
    pending: tuple[PromptId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFile:
    """What the engine called an upload: other bytes under a used name come back renamed."""

    name: str
    subfolder: str
    folder_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture that a node sent over the event stream and saved nowhere: a PNG."""

    node: NodeId
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """An engine that answers. `prompts`: how many it has, whoever sent them."""

    version: str | None
    is_comfyui: bool
    prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """An engine that does not answer: for how long, and the sentence of the last failure, if one is known.
    `accepts`: it may accept connections, as one that loads a model or hangs does."""

    seconds: float
    cause: str | None
    accepts: bool = True


class Target(Protocol):
    """A socket that does not block."""

    @property
    def descriptor(self) -> int: ...

    async def writable(self) -> None:
        """Wait until it accepts bytes. What this raises ends the transfer."""


class MovableBody(Protocol):
    """The rest of a file: `early` bytes that are here already, and those that the kernel moves."""

    early: bytes

    async def send(self, target: Target, amount: int) -> None: ...
    def close(self) -> None: ...


class OpenFile(Protocol):
    """A file, or a range of it (`status` 206), on its way. `total_length`: of the whole file, if known.

    `validator` changes whenever the file's bytes change; None where the place sends none.
    """

    @property
    def status(self) -> int: ...
    @property
    def total_length(self) -> int | None: ...
    @property
    def validator(self) -> str | None: ...
    def chunks(self) -> AsyncIterator[bytes]: ...

    async def unchanged(self) -> bool | None:
        """Whether the file has the same validator still; None when it is gone."""

    def take_over(self) -> MovableBody | None:
        """What `chunks` has not given yet, for the kernel to move; None where it can't."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What is wrong and what to do, each a sentence. `blocks`: no job can run."""

    cause: str
    fix: str
    blocks: bool = True

    @property
    def sentence(self) -> str:
        return f"{self.cause} {self.fix}"

    @property
    def down(self) -> bool:
        """ComfyUI itself is not there: jobs wait until somebody starts it."""
        return self.fix.startswith(START_IT)


class InputSource(Protocol):
    """A file that a workflow reads. `name`: what it is called on an engine that does not have it.

    An output says where it lies already: `file`, on `engine`. `size` in bytes is None where nobody knows it.
    """

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int | None: ...
    @property
    def engine(self) -> EngineId | None: ...
    @property
    def file(self) -> OutputFile | None: ...
    @property
    def open(self) -> Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]: ...


Locate = Callable[[str], Awaitable[InputSource]]
"""Finds what a graph names in `domain.file_inputs.FOLDER`. Raises NotFound."""


class Runner(Protocol):
    """Runs prompts. Every method but `prepare` is bounded by the settings' timeouts."""

    @property
    def engine(self) -> EngineId: ...

    async def run(self, hear: Hear) -> None:
        """Keep the event stream open until cancelled, reconnecting with backoff.

        Reports EngineConnected after every (re)connect, EngineDisconnected once per loss, and
        EngineWithoutEvents where requests are answered and the stream is refused.
        """

    @property
    def trouble(self) -> "Trouble | None":
        """What is wrong with the engine, or with the way to it, as far as `run` and others know."""
        ...

    @property
    def on_demand(self) -> bool:
        """`run` opens the stream only while the engine is wanted."""
        ...

    def want(self, wanted: bool) -> None:
        """There is work for it, or there has been none for a while. Only an engine on demand minds."""

    @property
    def stream_id(self) -> str:
        """Where the events of what is submitted now go; to be kept with the attempt, for `follow`."""
        ...

    def follow(self, stream_ids: Collection[str]) -> None:
        """While `run` runs, receive also what the engine sends to these ids: events of prompts submitted
        before this stream was opened, perhaps by another process. Best effort: `lookup` finds the rest."""

    @property
    def known_nodes(self) -> ObjectInfo | None:
        """The node list as the engine last gave it, without asking."""
        ...

    def recall(self, prompt_id: PromptId, reference: str | None) -> None:
        """At a takeover, before anything is asked: the prompt was submitted, and answered with `reference` if
        that answer was kept. Only a place that gives references needs it."""

    async def prepare(self, graph: Mapping[str, Any]) -> Mapping[str, Any]:
        """Put the files that the graph names in `domain.file_inputs.FOLDER` where it will run, each once, and
        return the graph to submit. Called before its `submit`, and beside those of others; it lasts as
        long as the files move, and may be cancelled at any time.

        Raises NotFound (output_gone) where a file is gone, LimitExceeded for one that this engine does not
        take, EngineFault and StoreFault for what may pass.
        """
        ...

    async def submit(
        self, prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None = None
    ) -> Accepted | Rejected:
        """POST the graph under `prompt_id`, with what goes beside it.

        Raises EngineUnreachable or EngineBadAnswer when it is not known whether the engine has it: look it
        up, never just send it again.
        """
        ...

    async def keep(self, prompt_id: PromptId, pictures: Sequence[Picture]) -> Sequence[OutputFile]:
        """Write pictures where `view` finds them. Raises EngineFault."""
        ...

    async def lookup(self, prompt_ids: Sequence[PromptId]) -> Mapping[PromptId, PromptView]:
        """Where each prompt is. Reads history around the queue: a move between is not lost."""
        ...

    async def cancel(self, prompt_id: PromptId) -> None:
        """Ask once: delete it if pending, interrupt it (targeted) if running. Says nothing about success."""

    async def free(self) -> None:
        """Ask the engine to unload its models and drop what it caches; it does so between two prompts."""

    async def reconnect(self) -> None:
        """Replace a stream that is open but delivers no events."""

    async def sizes(self, files: Sequence[OutputFile]) -> Mapping[OutputFile, int]:
        """Bytes of each file that the engine serves; those it does not know are left out."""
        ...


class Place(Runner, Protocol):
    """One engine, whole. Raises EngineFault wherever the engine is asked."""

    @property
    def url(self) -> str:
        """For people. Holds no secret."""
        ...

    @property
    def asleep(self) -> bool:
        """It is on demand, and has no work: nobody asks it anything."""
        ...

    @property
    def labels(self) -> frozenset[str]:
        """What its settings say of it, for submits that ask for a label."""
        ...

    async def nodes(self, *, max_age_s: float | None = None) -> ObjectInfo:
        """The node list, at most `max_age_s` old (None: as old as the place allows). Like all that an
        engine has (models, workflows), it is waited for as long as `NotAnswered` says."""
        ...

    @property
    def nodes_now(self) -> ObjectInfo | None:
        """What `nodes()` would return without asking the engine. None: it has to be asked."""
        ...

    @property
    def known_nodes_age_s(self) -> float | None:
        """Seconds since the engine gave `known_nodes`. None: it has not."""
        ...

    async def model_folders(self) -> Sequence[str]: ...
    async def experiment_models(self, folder: str) -> Sequence[Model]: ...

    async def templates(self) -> Sequence[WorkflowEntry]:
        """The workflows that come with the engine."""
        ...

    async def template(self, name: str) -> Any:
        """Its file; None: there is none."""
        ...

    async def saved_workflows(self) -> Sequence[WorkflowEntry]:
        """The workflows that people saved in the engine's own page."""
        ...

    async def saved_workflow(self, name: str) -> Any:
        """Its file; None: there is none."""
        ...

    def view(
        self, file: OutputFile, *, byte_range: str | None = None
    ) -> AbstractAsyncContextManager[OpenFile]:
        """Raises NotFound when the engine does not have the file, InvalidInput for a range outside it."""
        ...

    async def read_file(self, file: OutputFile, *, limit: int) -> tuple[bytes, int] | None:
        """The whole file and the length that the engine said; None for a longer one than `limit`, and where
        it said none. Raises NotFound."""
        ...

    async def upload(
        self, filename: str, content: AsyncIterable[bytes], *, subfolder: str, overwrite: bool
    ) -> UploadedFile:
        """Into the engine's input folder."""
        ...

    async def upload_limit(self) -> int | None:
        """Most bytes of an upload; None: the engine does not say."""
        ...

    async def queue(self) -> QueueView: ...
    async def health(self) -> Health: ...

    @property
    def silence(self) -> Silence | None:
        """Set if the engine does not answer, by what this process last asked and received."""
        ...

    @property
    def known_age_s(self) -> float | None:
        """Seconds since this process last knew whether it answers. None: it has not asked yet."""
        ...

    async def system_stats(self) -> Mapping[str, Any]:
        """`{system: {…}, devices: [{name, type, vram_total, vram_free, …}]}`, bytes."""
        ...

    async def close(self) -> None: ...
