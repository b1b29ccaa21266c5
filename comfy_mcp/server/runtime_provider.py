"""Where the surface gets the bridge: one is open already, another opens in the background."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import structlog

from comfy_mcp.domain.errors import BridgeError, ErrorCode, StoreFault
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.settings import Settings

log = structlog.get_logger(__name__)

START_TIMEOUT_S = 30.0
"""How long a call waits for the store to open: MCP clients give up after 60 s by default."""

PAUSE_S = 5.0
"""Between two attempts to open a runtime: what is wrong is a disk, a lock or a database."""

OpenBridge = Callable[[Settings], AbstractAsyncContextManager[Bridge]]


class BridgeProvider(Protocol):
    """The server answers before the runtime is open; each call waits here."""

    async def get(self) -> Bridge:
        """Wait, bounded, until the runtime is open. Raises the BridgeError that says why it isn't."""
        ...


@dataclass(frozen=True, slots=True)
class ReadyBridge:
    """One that is there already."""

    bridge: Bridge

    async def get(self) -> Bridge:
        return self.bridge


class RuntimeProvider:
    """Opens the runtime in the background and keeps trying: what is wrong is said on each call until then."""

    def __init__(
        self,
        settings: Settings,
        *,
        open_bridge: OpenBridge,
        start_timeout_s: float = START_TIMEOUT_S,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._settings = settings
        self._open_bridge = open_bridge
        self._start_timeout_s = start_timeout_s
        self._pause_s = pause_s
        self._bridge: Bridge | None = None
        self._failure: BridgeError | None = None
        self._settled = asyncio.Event()

    async def get(self) -> Bridge:
        """Raises the fault of the last attempt, or StoreFault when none has come to an end in time."""
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await self._settled.wait()
        except TimeoutError:
            raise StoreFault(
                "The bridge is still opening its store.", next_step="Call again in a few seconds."
            ) from None
        if self._bridge is None:
            assert self._failure is not None
            raise self._failure.with_traceback(None)
        return self._bridge

    async def run(self, during: Callable[[Bridge], Awaitable[None]]) -> None:
        """Keep a runtime open, with `during` running over it, until cancelled."""
        while True:
            try:
                await self._once(during)
            except BridgeError as error:
                log.warning("runtime_failed", code=error.code.value, error=str(error))
                self._failed(error)
            except Exception:
                error_id = secrets.token_hex(4)
                log.exception("runtime_failed", error_id=error_id)
                self._failed(_not_started(error_id))
            await asyncio.sleep(self._pause_s)

    async def _once(self, during: Callable[[Bridge], Awaitable[None]]) -> None:
        async with self._open_bridge(self._settings) as bridge:
            self._bridge, self._failure = bridge, None
            self._settled.set()
            try:
                await during(bridge)
            finally:
                self._bridge = None
                self._settled.clear()

    def _failed(self, error: BridgeError) -> None:
        self._failure = error
        self._settled.set()


def _not_started(error_id: str) -> StoreFault:
    return StoreFault(
        f"The bridge could not start (error id {error_id}).",
        next_step="Find the cause in the server's log under this id; `comfy-bridge doctor` checks the setup.",
        code=ErrorCode.INTERNAL,
    )
