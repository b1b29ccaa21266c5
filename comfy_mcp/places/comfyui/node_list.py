"""An engine's node list: read once, used until it is old or the engine has restarted."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from comfy_mcp.domain.errors import EngineFault, EngineUnreachable
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.places.comfyui.client import ComfyUIClient
from comfy_mcp.places.comfyui.patience import Patience
from comfy_mcp.places.protocol import ASK_S, NotAnswered

FIRST_LIST_S = 6.0
"""An engine that said something within this time may say nothing for as long before its first node list. So
may any, before a workflow is refused of which it may have the nodes."""

NODES_FRESH_S = 300.0
"""How long a node list is used. A workflow that does not fit it is checked with a fresh one."""

DOWN_TTL_S = 2.0
"""How long a failed node list is remembered: not every submit waits for a dead engine."""


class NodeList:
    """`fault`: why the last reading failed."""

    def __init__(self, client: ComfyUIClient, patience: Patience, clock: Callable[[], float]) -> None:
        self.fault: EngineFault | None = None
        self._client = client
        self._patience = patience
        self._clock = clock
        self._raw: Mapping[str, Any] | None = None
        self._raw_at = 0.0
        self._connections = 0
        self._parsed: tuple[Mapping[str, Any], ObjectInfo] | None = None
        self._parsed_at = 0.0
        self._down_until = 0.0

    def connected(self) -> None:
        """The engine may be another server, or the same with other nodes."""
        self._connections += 1
        self._raw = self.fault = None

    def answers(self) -> None:
        """It can be reached again."""
        if isinstance(self.fault, EngineUnreachable):
            self.fault = None

    @property
    def known(self) -> ObjectInfo | None:
        """The last one, however old."""
        return None if self._parsed is None else self._parsed[1]

    @property
    def age_s(self) -> float | None:
        """Of the last one."""
        return None if self._parsed is None else self._clock() - self._parsed_at

    @property
    def fresh(self) -> ObjectInfo | None:
        """The one that a reading would return without asking the engine."""
        raw, parsed = self._raw, self._parsed
        if raw is None or parsed is None or parsed[0] is not raw or self.fault is not None:
            return None
        return parsed[1] if self._clock() - self._raw_at < NODES_FRESH_S else None

    async def read(self, *, max_age_s: float | None = None) -> ObjectInfo:
        """At most `max_age_s` old (default: NODES_FRESH_S). Raises EngineFault."""
        slow = isinstance(self.fault, NotAnswered) and self._is_awaited(max_age_s)
        if self.fault is not None and self._clock() < self._down_until and not slow:
            raise self.fault
        try:
            raw = await self.raw(max_age_s=max_age_s)
        except EngineFault as fault:
            self.fault, self._down_until = fault, self._clock() + DOWN_TTL_S
            raise
        self.fault = None
        if self._parsed is None or self._parsed[0] is not raw:
            await self._parse(raw)
        assert self._parsed is not None
        return self._parsed[1]

    async def raw(self, *, max_age_s: float | None = None) -> Mapping[str, Any]:
        """GET /object_info, at most `max_age_s` old (default: NODES_FRESH_S), or the next reconnect."""
        limit_s = NODES_FRESH_S if max_age_s is None else max_age_s
        if self._raw is not None and self._clock() - self._raw_at < limit_s:
            return self._raw
        key = "object_info", self._connections
        # ComfyUI says nothing else while it writes its first list, for seconds with many custom nodes.
        lives = self._is_awaited(max_age_s) or self._client.transport.contact.heard_within(FIRST_LIST_S)
        first = self._raw is None and lives
        patience_s = FIRST_LIST_S if first else ASK_S
        return await self._patience.ask(key, self._ask, keep=False, patience_s=patience_s)

    def _is_awaited(self, max_age_s: float | None) -> bool:
        """Whoever asks for a fresh list is about to refuse a workflow, perhaps for want of this one."""
        return max_age_s is not None and self.known is None

    async def _ask(self) -> Mapping[str, Any]:
        connections = self._connections
        raw = self._raw = await self._client.object_info()
        # It may be the word of the server that was there before a connect meanwhile.
        kept = self._connections == connections
        self._raw_at = self._clock() if kept else float("-inf")
        await self._parse(raw)
        return raw

    async def _parse(self, raw: Mapping[str, Any]) -> None:
        replaceable = await self._replaceable()
        self._parsed = raw, await asyncio.to_thread(ObjectInfo.parse, raw, replaceable=replaceable)
        self._parsed_at = self._clock()

    async def _replaceable(self) -> frozenset[str]:
        try:
            return await self._client.node_replacements()
        except EngineFault:
            return frozenset()  # an old class is then a missing one
