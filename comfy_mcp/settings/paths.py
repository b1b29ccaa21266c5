"""Paths in settings."""

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """With ~ as the home folder: no shell expands it in an MCP client's or a compose file's env."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - never raises
