"""The one reader of the event log: every surface, and the wait, follow jobs through it."""

from comfy_mcp.operations.feed.feed import Described, Feed
from comfy_mcp.operations.feed.hub import Hub, Subscription
from comfy_mcp.operations.feed.reader import Reader

__all__ = ["Described", "Feed", "Hub", "Reader", "Subscription"]
