"""The metrics of a runtime that counts."""

from comfy_mcp.metrics import Metrics
from comfy_mcp.operations.services import Services


def metrics_of(services: Services) -> Metrics:
    assert services.metrics is not None
    return services.metrics
