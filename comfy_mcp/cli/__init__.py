"""The command `comfy-bridge`: one more surface over the operations, for people and scripts."""

from comfy_mcp.cli.app import main

__all__ = ["main"]
