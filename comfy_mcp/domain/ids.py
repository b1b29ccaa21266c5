"""The identifiers of the house. Each is a plain string that the type checker keeps apart."""

from typing import NewType

JobId = NewType("JobId", str)
"""One submitted workflow; `workflowId` on the v1 wire. A lowercase hyphenated UUID."""

BatchId = NewType("BatchId", str)
"""Several workflows of one submit. Where a workflow's id is asked for, it stands for all of them."""

PromptId = NewType("PromptId", str)
"""One submission to an engine (one attempt). ComfyUI 0.25+ demands a lowercase hyphenated UUID."""

EngineId = NewType("EngineId", str)
"""One ComfyUI server: the name given in the settings, or `host:port` of its URL."""

ClientId = NewType("ClientId", str)
"""The client: an agent's configured name, or an API key's name."""

OutputId = NewType("OutputId", str)
"""One file (or text) that a job made."""

NodeId = NewType("NodeId", str)
"""A node's key in an API-format graph."""

LOCAL = "local"
"""The lane of the ComfyUI servers of the settings."""

COMFY_API = "comfy-api-v2"
"""The lane of a service that speaks Comfy API v2."""

SALAD = "salad"
"""The lane of SaladCloud's job queue."""

AUTO = "auto"
"""In the place of a lane: the engines, or a service where these would take too long."""

CLOUDS = frozenset({COMFY_API, SALAD})
"""Lanes of services: what ran there is marked with the lane's name as its engine."""
