"""GPUs: readings from the local driver and from the engines, and the use of each job."""

from comfy_mcp.gpu.monitor import GpuChanges, GpuMonitor, SystemStats
from comfy_mcp.gpu.usage import GpuUsage, local_engines

__all__ = ["GpuChanges", "GpuMonitor", "GpuUsage", "SystemStats", "local_engines"]
