"""One durable bridge to ComfyUI, with MCP and HTTP surfaces."""

__version__ = "0.2.0"
