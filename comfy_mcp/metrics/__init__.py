"""The Prometheus metrics of this process (docs/metrics.md)."""

from comfy_mcp.metrics.metrics import EngineGauge, Metrics
from comfy_mcp.metrics.negotiation import Format, negotiate

__all__ = ["EngineGauge", "Format", "Metrics", "negotiate"]
