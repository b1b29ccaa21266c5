"""The MCP surface: tools, resources and notifications over the operations registry."""

from comfy_mcp.server.app import build_server
from comfy_mcp.server.bus import ResourceBus, open_bus
from comfy_mcp.server.listeners import Answer
from comfy_mcp.server.notifications import publish_events
from comfy_mcp.server.runtime_provider import BridgeProvider, ReadyBridge
from comfy_mcp.server.stdio import serve_stdio

__all__ = [
    "Answer",
    "BridgeProvider",
    "ReadyBridge",
    "ResourceBus",
    "build_server",
    "open_bus",
    "publish_events",
    "serve_stdio",
]
