"""Probes and documents: open to everybody, with no operation behind them."""

from collections.abc import Mapping
from types import MappingProxyType

from http_sidecar.openapi import examples
from http_sidecar.openapi.parts import (
    OF_AN_OPEN_PAGE,
    empty_response,
    exactly,
    json_response,
    text_response,
    unkeyed,
)
from http_sidecar.openapi.schemas import Json

_TEXT: Json = {"type": "string"}
_TIME: Json = {"type": "integer", "description": "Epoch milliseconds."}

_HEALTHY: Json = {
    "200": json_response(
        "It lives.",
        exactly(status={"const": "healthy"}, timestamp=_TIME),
        example={"status": "healthy", "timestamp": examples.CREATED_MS},
    )
}

_READINESS: Json = exactly(
    ready={"type": "boolean"},
    activeTasks={"type": ["integer", "null"], "description": "Queued and running workflows."},
    timestamp=_TIME,
    reason={"type": ["string", "null"]},
)
_READY: Json = {
    "200": json_response(
        "A submit would be taken.",
        _READINESS,
        example={"ready": True, "activeTasks": 2, "timestamp": examples.CREATED_MS, "reason": None},
    ),
    "503": json_response(
        "A submit would not be taken now.",
        _READINESS,
        example={"ready": False, "activeTasks": 2, "timestamp": examples.CREATED_MS, "reason": "draining"},
    ),
}

_METRICS: Json = {
    "200": text_response(
        "Prometheus text, or OpenMetrics where Accept asks for it.",
        "text/plain",
        "application/openmetrics-text",
    )
}

_INDEX: Json = exactly(
    name=_TEXT,
    version=_TEXT,
    endpoints={"type": "array", "items": exactly(path=_TEXT, methods={"type": "array", "items": _TEXT})},
)

_INDEX_OR_PAGE: Json = json_response(
    "Every endpoint with its methods; a page for people where Accept names text/html.", _INDEX
)
_INDEX_OR_PAGE["content"]["text/html"] = {"schema": _TEXT}

SERVICE: Mapping[tuple[str, str], Json] = MappingProxyType(
    {
        ("GET", "/health"): unkeyed("health", "Health", "Probes", _HEALTHY),
        ("GET", "/livez"): unkeyed("livez", "Liveness", "Probes", _HEALTHY),
        ("GET", "/ready"): unkeyed("ready", "Readiness", "Probes", _READY),
        ("GET", "/readyz"): unkeyed("readyz", "Readiness for Kubernetes", "Probes", _READY),
        ("GET", "/metrics"): unkeyed("metrics", "Metrics", "Probes", _METRICS),
        ("GET", "/"): unkeyed(
            "index",
            "Index",
            "Documents",
            {"200": _INDEX_OR_PAGE},
            known=OF_AN_OPEN_PAGE,
        ),
        ("GET", "/docs"): unkeyed(
            "docs",
            "Interactive documentation",
            "Documents",
            {"200": text_response("A page that needs nothing from elsewhere.", "text/html")},
            known=OF_AN_OPEN_PAGE,
        ),
        ("GET", "/openapi.json"): unkeyed(
            "openapi",
            "This document",
            "Documents",
            {
                "200": json_response("OpenAPI 3.1.", {"type": "object"}, headers=("ETag",)),
                "304": empty_response("What the client has is still right.", headers=("ETag",)),
            },
            known=OF_AN_OPEN_PAGE,
        ),
    }
)
"""By method and path."""
