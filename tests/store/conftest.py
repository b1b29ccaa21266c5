from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfy_mcp.settings import Settings, load_settings
from comfy_mcp.store import Store
from comfy_mcp.store.sqlite import database
from tests.support.invariants import check_store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(state_dir=tmp_path / "state", store_busy_timeout_s=5.0)


@pytest.fixture(params=["wal", "truncate"])
async def store(
    settings: Settings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    """A fresh store in each journal mode; whatever a test did with it, the invariants hold at its end."""
    monkeypatch.setattr(database, "WAL_SAFE_FROM", (0,) if request.param == "wal" else (999,))
    store = await Store.open(settings)
    assert store.info.journal_mode == request.param
    yield store
    await check_store(store)
    await store.close()
