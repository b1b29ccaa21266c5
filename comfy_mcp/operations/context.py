"""One call of an operation: the services that it works with, and who is calling."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from comfy_mcp.domain.access import ALL_RIGHTS, Right
from comfy_mcp.domain.errors import Denied
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import WorkflowResult

ProgressReport = Callable[[WorkflowResult], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, and from which surface. `may_read_files`: a path in a submit is read on this machine.
    `upload_url` makes an address to which one file can be sent without a key, once."""

    client: ClientId
    surface: str
    may_read_files: bool = True
    rights: frozenset[Right] = ALL_RIGHTS
    upload_url: Callable[[], str] | None = None

    @property
    def said(self) -> str:
        """Who it is, for other people."""
        return f"{self.client} ({self.surface})"

    @property
    def sees_all(self) -> bool:
        """Other clients' jobs too."""
        return Right.ADMIN in self.rights

    @property
    def share(self) -> ClientId | None:
        """Whose part it uses of what clients share; None: it may use all."""
        return None if self.sees_all else self.client

    def may_see(self, client: ClientId) -> bool:
        return self.sees_all or client == self.client


class Leaving(Protocol):
    """Whether this process is shutting down: then a wait returns the current state, and the job goes on."""

    @property
    def begun(self) -> bool: ...

    def ends(self) -> AbstractAsyncContextManager[None]:
        """Raises TimeoutError inside as soon as it begins."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationContext:
    """One call. `on_progress` is called with every new state while an operation waits.

    `content` are the bytes that come with a call of an operation that takes a file; they can be read once.
    `repairs` say which arguments were changed (operations/repairs.py). `found`: all warnings so far, which an
    error takes along.
    """

    services: Services
    caller: Caller
    on_progress: ProgressReport | None = None
    content: AsyncIterable[bytes] | None = None
    leaving: Leaving | None = None
    repairs: tuple[str, ...] = ()
    found: list[str] = field(default_factory=list)


def require_right(caller: Caller, right: Right, what: str) -> None:
    """Raises Denied (`forbidden`)."""
    if right not in caller.rights:
        raise Denied(
            f"{what} needs the right {right.value!r}",
            next_step="Use a key with this right; `comfy-bridge keys list` shows the rights of each key.",
        )
