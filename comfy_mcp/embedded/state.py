"""What the routes share: one engine's parts, and nothing global."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy_mcp.embedded.config import EngineConfig
from comfy_mcp.embedded.directories import Directories
from comfy_mcp.embedded.nodes import NodeType
from comfy_mcp.embedded.prompts import PromptQueue
from comfy_mcp.embedded.sockets import SocketHub


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    config: EngineConfig
    directories: Directories
    nodes: Mapping[str, NodeType]
    queue: PromptQueue
    hub: SocketHub

    def exec_info(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": self.queue.remaining}}
