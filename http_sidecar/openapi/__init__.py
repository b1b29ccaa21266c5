"""The OpenAPI 3.1 document at /openapi.json, generated from the registry and the application's own routes."""

from http_sidecar.openapi.document import build, described
from http_sidecar.openapi.endpoint import endpoints_of, setup

__all__ = ["build", "described", "endpoints_of", "setup"]
