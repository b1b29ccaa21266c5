"""Which of the two text formats a scraper wants."""

from enum import StrEnum


class Format(StrEnum):
    TEXT = "text"
    OPENMETRICS = "openmetrics"


def negotiate(accept: str) -> Format:
    """From an Accept header, however wild: OpenMetrics where it is named and not wanted less than plain text.

    Prometheus 2.x sends `application/openmetrics-text;version=1.0.0;q=0.5,…,text/plain;version=0.0.4;q=0.3`.
    """
    wanted = {Format.OPENMETRICS: 0.0, Format.TEXT: 0.0}
    for entry in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in entry.split(";"))
        if media_type == "application/openmetrics-text":
            form = Format.OPENMETRICS
        elif media_type == "text/plain":
            form = Format.TEXT
        else:
            continue
        wanted[form] = max(wanted[form], _quality(parameters))
    openmetrics = wanted[Format.OPENMETRICS]
    return Format.OPENMETRICS if openmetrics > 0 and openmetrics >= wanted[Format.TEXT] else Format.TEXT


def _quality(parameters: list[str]) -> float:
    """The last `q`; 0 where it is none that RFC 9110 knows."""
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return 0.0
    return quality if 0 <= quality <= 1 else 0.0
