"""The whole document: what the application's routes are, described."""

from collections.abc import Iterable

from comfy_mcp import __version__
from http_sidecar.openapi.endpoints import ENDPOINTS
from http_sidecar.openapi.operations import operation_object, registry_schemas
from http_sidecar.openapi.parts import HEADERS, KEYED, SECURITY_SCHEMES, SHARED_RESPONSES, Problem
from http_sidecar.openapi.schemas import Json, problem_schemas
from http_sidecar.routes import ROUTES, UPLOAD

Endpoint = tuple[str, str]
"""Method in capitals, and path template."""


def described() -> dict[Endpoint, Json]:
    """The Operation Object of everything that can be served."""
    of_operations = {(route.method, route.path): operation_object(route) for route in (*ROUTES, UPLOAD)}
    return {**of_operations, **ENDPOINTS}


def build(served: Iterable[Endpoint], *, metrics_public: bool = True) -> Json:
    """An OpenAPI 3.1 document of what is served. `*` as a method stands for all that are described."""
    known = described()
    if not metrics_public:
        known["GET", "/metrics"] = {**known["GET", "/metrics"], "security": KEYED}
    wanted = set(served)
    paths: dict[str, Json] = {}
    for (method, path), operation in known.items():
        if (method, path) in wanted or ("*", path) in wanted:
            paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "comfy-mcp-bridge",
            "version": __version__,
            "summary": "ComfyUI workflows as durable jobs, over HTTP.",
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": problem_schemas(Problem) | registry_schemas(),
            "responses": SHARED_RESPONSES,
            "headers": HEADERS,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


_ABOUT = (
    "Submit a ComfyUI graph, follow it by polling, WebSocket or server-sent events, and fetch what it made. "
    "A key goes into `X-API-Key` or `Authorization: Bearer`; a service without keys answers on its own "
    "machine only. Every error has the one body `Problem`. Times are epoch "
    "milliseconds, sizes bytes. What is fetched by GET can be asked for by HEAD, streams apart."
)

_TAGS = {
    "Workflows": "Submit, follow, cancel.",
    "Outputs": "What workflows made.",
    "Models": "What engines have.",
    "Webhooks": "Events sent to a URL of yours; docs/webhooks.md describes them.",
    "Streams": "Events as they happen; docs/streams.md describes the messages.",
    "System": "Engines, queue, GPU, store.",
    "Probes": "For orchestrators and Prometheus; never counted by the rate limit.",
    "MCP": "The same operations for agents, over Streamable HTTP.",
    "Documents": "Descriptions of this service.",
}
