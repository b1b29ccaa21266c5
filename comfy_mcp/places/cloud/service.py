"""What `CloudPlace` asks of a service that runs workflows. An adapter for one service implements it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from comfy_mcp.domain.errors import EngineUnreachable
from comfy_mcp.domain.events import JobFailure
from comfy_mcp.domain.ids import EngineId, NodeId, PromptId
from comfy_mcp.domain.prompt import PromptEnding
from comfy_mcp.places.protocol import Accepted, InputSource, Rejected


class NotNow(EngineUnreachable):
    """The service did not accept anything, and may in `after_s`: its queue is full, or it refuses the key."""

    def __init__(self, message: str, *, next_step: str, after_s: float) -> None:
        super().__init__(message, next_step=next_step)
        self.after_s = after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A file that a job made. `name` is the service's word. `open` gives the bytes.

    Opening and reading raise NotFound for what is gone, InvalidInput and LimitExceeded for what can't be had,
    EngineFault for what may pass.
    """

    name: str
    open: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]] = field(repr=False)
    node: NodeId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudJob:
    """A job at the service. `node` is the one that it works on. `ending` is set once it is over, and then
    `ran_ms` is how long it ran, if the service says that."""

    running: bool
    node: NodeId | None = None
    ending: PromptEnding | None = None
    failure: JobFailure | None = None
    ran_ms: int | None = None
    made: tuple[Made, ...] = ()


class Service(Protocol):
    """Every method but `close` raises EngineFault where the service does not do its part."""

    @property
    def engine(self) -> EngineId:
        """What jobs and outputs of this service are marked with."""
        ...

    @property
    def repeats(self) -> bool:
        """Whether a repeated `create` with the same prompt_id makes no second job."""
        ...

    @property
    def largest_input(self) -> int | None:
        """Bytes of one input file. None: no limit is known."""
        ...

    async def check(self) -> None:
        """Whether it answers, and takes the key."""

    async def create(
        self, prompt_id: PromptId, graph: Mapping[str, Any], extra: Mapping[str, Any]
    ) -> Accepted | Rejected:
        """Raises NotNow where nothing was created. After any other fault the job may be there."""
        ...

    async def find(self, prompt_id: PromptId) -> str | None:
        """The reference of a job that was created under `prompt_id`; None: there is none that is known."""
        ...

    async def job(self, reference: str) -> CloudJob | None:
        """None: the service does not have it any more."""
        ...

    async def cancel(self, reference: str) -> None: ...

    async def put(self, source: InputSource) -> object:
        """Send a file; what a graph says for it."""
        ...

    async def close(self) -> None: ...
