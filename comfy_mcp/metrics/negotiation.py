"""Which of the two text formats a scraper wants."""

from enum import StrEnum

from comfy_mcp.domain.accept import preferred


class Format(StrEnum):
    TEXT = "text/plain"
    OPENMETRICS = "application/openmetrics-text"


def negotiate(accept: str) -> Format:
    """From an Accept header, however wild: OpenMetrics where it is named and not wanted less than plain text.

    Prometheus 2.x sends `application/openmetrics-text;version=1.0.0;q=0.5,…,text/plain;version=0.0.4;q=0.3`.
    """
    return Format(preferred(accept, (Format.OPENMETRICS, Format.TEXT)) or Format.TEXT)
