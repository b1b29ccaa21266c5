"""The v1 contract, called as clients of the earlier service call it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.kept_in import kept_in
from tests.support.sidecar import Sidecar, open_sidecar

__all__ = ["kept_in"]


@pytest.fixture
async def v1(tmp_path: Path) -> AsyncIterator[Sidecar]:
    """No key, no rate limit."""
    async with open_sidecar(tmp_path) as sidecar:
        yield sidecar
