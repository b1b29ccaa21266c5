"""`comfy-bridge engines`: list them, add and remove one, take one out of use and back."""

from collections.abc import Mapping, Sequence
from typing import Any

from comfy_mcp.cli.exits import ExitCode
from comfy_mcp.cli.output import Output, in_commands
from comfy_mcp.cli.session import open_session
from comfy_mcp.cli.show import engines_lines
from comfy_mcp.operations.shapes import DrainResult, EngineChangeResult, SystemResult
from comfy_mcp.settings import Settings


async def list_(settings: Settings, output: Output) -> ExitCode:
    async with open_session(settings, drive=False) as session:
        system: SystemResult = await session.call("system_status", {})
    found = [engine.model_dump(mode="json") for engine in system.engines]
    output.result({"engines": found}, engines_lines(system.engines))
    if not found:
        output.note("There is no engine. `comfy-bridge engines add NAME URL` adds one.")
    return ExitCode.OK


async def change(settings: Settings, output: Output, name: str, arguments: Mapping[str, Any]) -> ExitCode:
    """`add_engine` or `remove_engine`. Raises as the operation."""
    async with open_session(settings, drive=False) as session:
        result: EngineChangeResult = await session.call(name, arguments)
    output.answer(result, [in_commands(result.text())])
    return ExitCode.OK


async def drain(settings: Settings, output: Output, *, engine: str, drained: bool) -> ExitCode:
    """Raises NotFound for an engine that is not in the settings."""
    async with open_session(settings, drive=False) as session:
        name = "drain_engine" if drained else "resume_engine"
        result: DrainResult = await session.call(name, {"engine": engine})
    output.answer(result, [result.text()])
    return ExitCode.OK


def headers_of(lines: Sequence[str]) -> dict[str, str]:
    """Of `Name: value`."""
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}
