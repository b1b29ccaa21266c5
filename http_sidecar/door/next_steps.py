"""Next steps for REST clients: `GET /v1/comfyui/workflow/…/wait` instead of the name of an MCP tool."""

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote

from pydantic.alias_generators import to_camel

from comfy_mcp.operations.next_steps import OperationMention, reworded
from comfy_mcp.operations.shapes import in_words
from http_sidecar.routes import ROUTES

_REQUESTS = {route.operation: f"{route.method} {route.path}" for route in ROUTES}


@lru_cache(maxsize=1024)  # a client that polls gets the same each time
def in_urls(advice: str) -> str:
    """The advice with requests in the place of operations."""
    return reworded(advice, partial(_request_of, _REQUESTS))


def in_requests(advice: str, requests: Mapping[str, str]) -> str:
    """The same where some operations have other `requests`: `POST /api/v2/jobs/{workflowId}/cancel`."""
    return reworded(advice, partial(_request_of, {**_REQUESTS, **requests}))


IN_URLS: Mapping[str, Any] = in_words(in_urls)
"""For a result's dump."""


def _request_of(requests: Mapping[str, str], mention: OperationMention) -> str:
    """`METHOD PATH`, which is its own verb. What is not known stays a parameter: `{workflowId}`."""
    request = requests[mention.operation]
    for name, value in mention.arguments.items():
        request = request.replace(f"{{{_camel(name)}}}", quote(value, safe=""))
    return request


_camel = lru_cache(maxsize=64)(to_camel)
