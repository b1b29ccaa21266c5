"""GPUs: what the local driver and the engines say of them, and what jobs took of them."""

from comfy_mcp.gpu.monitor import GpuChanges, GpuMonitor, SystemStats
from comfy_mcp.gpu.usage import GpuUsage, local_engines

__all__ = ["GpuChanges", "GpuMonitor", "GpuUsage", "SystemStats", "local_engines"]
