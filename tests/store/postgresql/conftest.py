"""A store in PostgreSQL, and ways to reach it past the store."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from comfy_mcp.settings import Settings, load_settings
from comfy_mcp.store import Store
from tests.support import postgres
from tests.support.invariants import check_store


@pytest.fixture
def url() -> str:
    return postgres.shared().database()


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Settings:
    return load_settings(state_dir=tmp_path / "state", store=url)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    store = await Store.open(settings)
    yield store
    await check_store(store)
    await store.close()


@pytest.fixture
def by_hand(url: str) -> Iterator["psycopg.Connection[Any]"]:
    """A connection of somebody else; each statement commits."""
    connection = psycopg.connect(url, autocommit=True)
    yield connection
    connection.close()
