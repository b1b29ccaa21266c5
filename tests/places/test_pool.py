"""Which place is asked."""

import pytest

from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.needs import needs_of
from comfy_mcp.places.comfyui.place import ComfyUIPlace
from comfy_mcp.places.pool import Pool, equipment_of
from comfy_mcp.places.protocol import Place
from comfy_mcp.settings import load_settings
from tests.support.fake_engine import FakeEngine, reply

NEEDS = needs_of(parse_graph({"1": {"class_type": "Rare", "inputs": {}}}))


def pool_of(*urls: str) -> Pool[Place]:
    settings = load_settings(engine_urls=urls, connect_timeout_s=20.0)
    return Pool([ComfyUIPlace(engine, settings) for engine in settings.engines])


async def close(pool: Pool[Place]) -> None:
    for place in pool.all():
        await place.close()


def test_places_are_found_by_their_engine_and_stay_in_order() -> None:
    pool = pool_of("b=http://127.0.0.1:1", "a=http://127.0.0.1:2")
    assert list(pool) == ["b", "a"]
    assert [place.engine for place in pool.all()] == ["b", "a"]
    assert pool[EngineId("a")].url == "http://127.0.0.1:2"
    assert (len(pool), EngineId("c") in pool) == (2, False)


async def test_the_first_that_answers_is_asked_and_the_last_in_any_case() -> None:
    async with FakeEngine() as engine:
        engine.answers["GET /system_stats"] = reply({"system": {}})
        pool = pool_of("down=http://127.0.0.1:9", f"up={engine.url}", "last=http://127.0.0.1:10")
        assert (await pool.first()).engine == "up"
        engine.answers["GET /prompt"] = reply({}, status=500)
        assert (await pool.first()).engine == "last"
        await close(pool)


@pytest.mark.parametrize(("nodes", "fits"), [({"Rare": {}}, True), ({"Common": {}}, False)])
async def test_a_place_fits_that_has_the_nodes_or_has_not_said(nodes: dict[str, object], fits: bool) -> None:
    async with FakeEngine() as engine:
        engine.answers["GET /object_info"] = reply(nodes)
        pool = pool_of(f"asked={engine.url}", "silent=http://127.0.0.1:9")
        await pool[EngineId("asked")].nodes()
        fitting = [place.engine for place in pool.all() if NEEDS.met_by(equipment_of(place))]
        assert fitting == (["asked", "silent"] if fits else ["silent"])
        await close(pool)
