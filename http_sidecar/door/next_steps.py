"""Next steps for REST clients: `GET /v1/comfyui/workflow/…/wait` instead of the name of an MCP tool."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from pydantic.alias_generators import to_camel

from comfy_mcp.operations.next_steps import OperationMention, reworded
from comfy_mcp.operations.shapes import in_words
from http_sidecar.routes import ROUTES

_ROUTE_OF = {route.operation: route for route in ROUTES}
_PARAMETER = re.compile(r"\{(\w+)\}")


@lru_cache(maxsize=1024)  # a client that polls gets the same each time
def in_urls(advice: str) -> str:
    """The advice with requests in the place of operations."""
    return reworded(advice, _request_of)


IN_URLS: Mapping[str, Any] = in_words(in_urls)
"""For a result's dump."""


def _request_of(mention: OperationMention) -> str:
    """`METHOD PATH`, which is its own verb. What is not known stays a parameter: `{workflowId}`."""
    route = _ROUTE_OF[mention.operation]
    known = {to_camel(name): quote(value, safe="") for name, value in mention.arguments.items()}
    path = _PARAMETER.sub(lambda found: known.get(found[1], found[0]), route.path)
    return f"{route.method} {path}"
