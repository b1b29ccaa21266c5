"""One real ComfyUI for all the tests of this folder; installed first where it is not yet (1 to 3 minutes)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.real_comfyui import RealComfyUI

FIRST_INSTALLATION = 600
"""Seconds for a test that may be the one to install ComfyUI, over a slow network."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(FIRST_INSTALLATION))


@pytest.fixture(scope="session")
def real_comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealComfyUI]:
    """Shared by the session: whoever kills it starts it again."""
    with RealComfyUI(tmp_path_factory.mktemp("comfyui")) as server:
        yield server
