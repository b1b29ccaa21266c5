"""What driving asks of a place: one engine where jobs can run."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from comfy_mcp.domain.catalog import OutputFile
from comfy_mcp.domain.events import EngineEvent, JobFailure
from comfy_mcp.domain.ids import EngineId, NodeId, PromptId
from comfy_mcp.domain.prompt import PromptEnding, PromptResult

__all__ = [
    "Accepted",
    "Hear",
    "Place",
    "PromptEnding",
    "PromptResult",
    "PromptView",
    "PromptWhere",
    "Rejected",
]

Hear = Callable[[EngineEvent], None]
"""Gets each event where it was read, on the loop. Quick, and raises nothing but defects."""


class PromptWhere(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    ABSENT = "absent"  # deleted, evicted from the history, or the engine was restarted


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptView:
    """Where a prompt is now. `result` is set for FINISHED only."""

    where: PromptWhere
    result: PromptResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The engine queued it. `dropped` names output nodes whose branch was refused, with the reason."""

    dropped: Mapping[NodeId, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The engine refused the whole graph (HTTP 400) and queued nothing."""

    failure: JobFailure


class Place(Protocol):
    """One engine. Every method is bounded by the settings' timeouts."""

    @property
    def engine(self) -> EngineId: ...

    async def run(self, hear: Hear) -> None:
        """Keep the event stream open until cancelled, reconnecting with backoff.

        Reports EngineConnected after every (re)connect and EngineDisconnected once per loss.
        """

    @property
    def stream_id(self) -> str:
        """Where the events of what is submitted now go; to be kept with the attempt, for `follow`."""
        ...

    def follow(self, stream_ids: Collection[str]) -> None:
        """While `run` runs, hear also what the engine sends to these: of prompts that were submitted before
        the present stream was opened, perhaps by another process. Best effort: `lookup` finds the rest."""

    async def submit(self, prompt_id: PromptId, graph: Mapping[str, Any]) -> Accepted | Rejected:
        """POST the graph under `prompt_id`.

        Raises EngineUnreachable or EngineBadAnswer when it is not known whether the engine has it: look it
        up, never just send it again.
        """
        ...

    async def lookup(self, prompt_ids: Sequence[PromptId]) -> Mapping[PromptId, PromptView]:
        """Where each prompt is. Reads history around the queue: a move between is not lost."""
        ...

    async def cancel(self, prompt_id: PromptId) -> None:
        """Ask once: delete it if pending, interrupt it (targeted) if running. Says nothing about success."""

    async def free(self) -> None:
        """Ask the engine to unload its models and drop what it caches; it does so between two prompts."""

    async def reconnect(self) -> None:
        """The stream is open and says nothing of what happens: take another one."""

    async def sizes(self, files: Sequence[OutputFile]) -> Mapping[OutputFile, int]:
        """Bytes of each file that the engine serves; those it does not know are left out."""
        ...
