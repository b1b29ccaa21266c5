"""Engines of a file are added and removed; those of a variable are not."""

from pathlib import Path

import pytest

from comfy_mcp.domain.access import ALL_RIGHTS
from comfy_mcp.domain.errors import InvalidInput, NotFound
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller, OperationContext
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings

CALLER = Caller(client=ClientId("me"), surface="test", rights=ALL_RIGHTS)


async def test_an_engine_is_added_to_a_file_that_is_not_there_yet_and_removed(tmp_path: Path) -> None:
    file = tmp_path / "new" / "engines.toml"
    settings = load_settings(state_dir=tmp_path / "state", engines_file=file)
    async with open_runtime(settings, drive=False) as services:
        context = OperationContext(services=services, caller=CALLER)
        with pytest.raises(NotFound) as caught:
            await BY_NAME["drain_engine"].call(context, {"engine": "a"})
        assert "engines add" in caught.value.next_step
        given = {"engine": "a", "url": "http://127.0.0.1:9", "token": "s3cret-word", "headers": {"X-A": "b"}}
        added = await BY_NAME["add_engine"].call(context, given)
        assert str(file) in added.text()
        (engine,) = settings.read_engines()
        assert engine.header_values() == {"X-A": "b", "Authorization": "Bearer s3cret-word"}
        removed = await BY_NAME["remove_engine"].call(context, {"engine": "a"})
        assert (removed.engine, settings.read_engines()) == ("a", ())
        with pytest.raises(NotFound):
            await BY_NAME["remove_engine"].call(context, {"engine": "a"})


@pytest.mark.parametrize("name", ["add_engine", "remove_engine"])
async def test_engines_of_a_variable_are_not_changed(tmp_path: Path, name: str) -> None:
    settings = load_settings(state_dir=tmp_path, engine_urls="a=http://127.0.0.1:9")
    async with open_runtime(settings, drive=False) as services:
        context = OperationContext(services=services, caller=CALLER)
        arguments = {"engine": "a", **({"url": "http://127.0.0.1:8"} if name == "add_engine" else {})}
        with pytest.raises(InvalidInput, match="no command changes") as caught:
            await BY_NAME[name].call(context, arguments)
        assert "COMFY_BRIDGE_ENGINES_FILE" in caught.value.next_step
