"""What a surface gets beside the operations; the rest is tested by each surface."""

from comfy_mcp.operations.bridge import Bridge
from tests.operations.conftest import Bench


async def test_that_keys_are_in_use_is_remembered_apart_from_the_keys(call: Bench) -> None:
    bridge = Bridge(call.services)
    assert not await bridge.keys_required()
    await bridge.require_keys()
    assert await bridge.keys_required()
    assert await bridge.keys() == []
