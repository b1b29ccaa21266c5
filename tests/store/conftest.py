from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfy_mcp.settings import Settings, load_settings
from comfy_mcp.store import Store
from comfy_mcp.store.sqlite import database
from tests.support import postgres
from tests.support.invariants import check_store


@pytest.fixture(params=["wal", "truncate", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """SQLite in each journal mode, and PostgreSQL."""
    return str(request.param)


@pytest.fixture
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """Of the store, if the test has one; else of a file."""
    given: dict[str, object] = {"state_dir": tmp_path / "state"}
    if "kind" in request.fixturenames and request.getfixturevalue("kind") == "postgresql":
        given["store"] = postgres.shared().database()
    return load_settings(**given)


@pytest.fixture
async def store(settings: Settings, kind: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """A fresh store in each kind of database; whatever a test did with it, the invariants hold at its end."""
    if kind != "postgresql":
        monkeypatch.setattr(database, "WAL_SAFE_FROM", (0,) if kind == "wal" else (999,))
    store = await Store.open(settings)
    assert store.info.journal_mode == ("truncate" if kind == "truncate" else "wal")
    assert store.info.version.startswith("PostgreSQL" if kind == "postgresql" else "SQLite")
    yield store
    await check_store(store)
    await store.close()
