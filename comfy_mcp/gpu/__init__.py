"""GPUs: NVML where there is a local driver, else what the engines say of themselves."""

from comfy_mcp.gpu.monitor import GpuMonitor, SystemStats

__all__ = ["GpuMonitor", "SystemStats"]
