"""Comfy's own Python SDK, unchanged, against the whole sidecar with a key."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from comfy_sdk import AsyncComfy, Comfy

from comfy_mcp.domain.access import ApiKey, Right, digest_of
from http_sidecar.bounds import Bounds
from tests.support.sidecar import Sidecar, open_sidecar

KEY = "a-key-for-tests-0123456789"
HEADERS = {"Authorization": f"Bearer {KEY}"}
API = "/api/v2"

OTHERS = {
    "ben": frozenset({Right.READ, Right.SUBMIT}),
    "rita": frozenset({Right.READ}),
    "sam": frozenset({Right.SUBMIT}),
}
"""Other clients, whose keys are their names."""


def of(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


@pytest.fixture
async def v2(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with open_sidecar(tmp_path, http_key=KEY, bounds=Bounds(stream_heartbeat_s=0.1)) as sidecar:
        for name, rights in OTHERS.items():
            key = ApiKey(name=name, digest=digest_of(name), rights=rights, created_at=1)
            await sidecar.services.store.add_key(key)
        yield sidecar


@pytest.fixture
def comfy(v2: Sidecar, monkeypatch: pytest.MonkeyPatch) -> Iterator[Comfy]:
    """Its calls block: run them on a thread."""
    monkeypatch.setenv("COMFY_BASE_URL", v2.url)
    with Comfy(api_key=KEY) as client:
        yield client


@pytest.fixture
async def client(v2: Sidecar, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncComfy]:
    monkeypatch.setenv("COMFY_BASE_URL", v2.url)
    async with AsyncComfy(api_key=KEY) as client:
        yield client
