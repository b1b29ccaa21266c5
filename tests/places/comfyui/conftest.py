"""A scripted engine, a client of it and a place over it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from comfy_mcp.places.comfyui import listener
from comfy_mcp.places.comfyui.client import ComfyUIClient
from comfy_mcp.places.comfyui.place import ComfyUIPlace
from comfy_mcp.settings import Settings, load_settings
from tests.support.fake_engine import FakeEngine
from tests.support.watching import Watch, watching


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine() as engine:
        yield engine


@pytest.fixture(autouse=True)
def _nothing_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MAX_PAUSE_S", 0.02)


@pytest.fixture
def settings_for() -> Callable[..., Settings]:
    """Settings for one engine. The limits are those of a test that must fail: nothing waits for them."""

    def make(url: str, **others: Any) -> Settings:
        limits = {"request_timeout_s": 20.0, "connect_timeout_s": 20.0}
        return load_settings(engine_urls=(f"fake={url}",), **(limits | others))

    return make


@pytest.fixture
async def client(engine: FakeEngine, settings_for: Callable[..., Settings]) -> AsyncIterator[ComfyUIClient]:
    settings = settings_for(engine.url)
    async with ComfyUIClient(settings.engines[0], settings) as client:
        yield client


@pytest.fixture
async def watch(engine: FakeEngine, settings_for: Callable[..., Settings]) -> AsyncIterator[Watch]:
    async with watching(settings_for(engine.url)) as watch:
        yield watch


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def place(engine: FakeEngine, clock: Clock) -> AsyncIterator[ComfyUIPlace]:
    settings = load_settings(engine_urls=(f"fake={engine.url}",))
    place = ComfyUIPlace(settings.engines[0], settings, clock=clock)
    yield place
    await place.close()
