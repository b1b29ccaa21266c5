"""The product as a surface sees it: operations to call, a feed to follow, and nothing below them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.operations.context import Caller, Leaving, OperationContext, ProgressReport
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.operations.services import Services

if TYPE_CHECKING:  # a surface imports this module before it opens anything
    from comfy_mcp.domain.access import ApiKey
    from comfy_mcp.metrics import Metrics
    from comfy_mcp.operations.feed import Feed


class GpuChanges(Protocol):
    """Changes of the GPUs that somebody would want to see."""

    async def next(self) -> Any:
        """Wait for one. What changed while nobody waited is one change."""
        ...


class Bridge:
    """One per process; the surfaces share it."""

    def __init__(self, services: Services) -> None:
        # Here: the module is imported before anything is opened, when each import delays the handshake.
        from comfy_mcp.operations.assets import Assets
        from comfy_mcp.operations.outputs import Outputs

        self._services = services
        self.outputs: Outputs = Outputs(services)
        self.assets: Assets = Assets(services)

    async def call(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        *,
        caller: Caller,
        on_progress: ProgressReport | None = None,
        content: AsyncIterable[bytes] | None = None,
        leaving: Leaving | None = None,
    ) -> Any:
        """The operation's Result; see OperationContext for the rest. Raises BridgeError."""
        context = OperationContext(
            services=self._services, caller=caller, on_progress=on_progress, content=content, leaving=leaving
        )
        return await BY_NAME[operation].call(context, arguments)

    @property
    def feed(self) -> Feed:
        return self._services.feed

    @property
    def metrics(self) -> Metrics | None:
        """None: nobody can read them."""
        return self._services.metrics

    def now_ms(self) -> int:
        return self._services.now_ms()

    def gpu_changes(self, wanted: Callable[[], bool]) -> AbstractContextManager[GpuChanges]:
        """Follow the GPUs while the context is open and somebody wants it."""
        return self._services.gpu.follow(wanted)

    async def keys(self) -> list[ApiKey]:
        """The API keys as they are kept, for the door that compares them. Raises StoreFault."""
        return await self._services.store.keys()

    async def keys_required(self) -> bool:
        """Whether keys were in use with this store, also where they have been lost. Raises StoreFault."""
        return await self._services.store.keys_required()

    async def require_keys(self) -> None:
        """Remember that keys are in use, apart from the keys. Raises StoreFault."""
        await self._services.store.require_keys()

    async def unready(self) -> str | None:
        """Why a submit could not be kept, or would not run; None: it could, as far as is known.

        For a probe that is open to everybody: no path. An engine that is down makes nothing unready, since
        jobs wait for it; one that answers and can't be used does.
        """
        store = self._services.store
        try:
            await store.check_writable()
        except StoreFault as fault:
            return fault.message.replace(f" at {store.info.where}", "")
        return self._services.engines.unusable()

    async def active_jobs(self) -> int:
        """Queued and running, for a probe: no engine is asked. Raises StoreFault."""
        counts = await self._services.store.counts()
        return counts[JobStatus.QUEUED] + counts[JobStatus.RUNNING]
