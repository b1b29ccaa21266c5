"""The embedded engine: a ComfyUI-compatible server of our own that runs model-free nodes for real.

It is the engine of the demo and of CI. It is not ComfyUI and says so in /system_stats. It needs nothing of
the rest of this package, aiohttp and Pillow only.
"""

from comfy_mcp.embedded.config import EngineConfig
from comfy_mcp.embedded.engine import EmbeddedEngine, serve

__all__ = ["EmbeddedEngine", "EngineConfig", "serve"]
