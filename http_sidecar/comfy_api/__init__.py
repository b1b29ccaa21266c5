"""Comfy API v2 at /api/v2, which `comfy-sdk` and `@comfyorg/sdk` speak, over the operations."""
