"""`comfy-bridge engines`: list them, take one out of use and back."""

from comfy_mcp.cli.exits import ExitCode
from comfy_mcp.cli.output import Output
from comfy_mcp.cli.session import open_session
from comfy_mcp.operations.shapes import DrainResult, EngineItem, SystemResult
from comfy_mcp.settings import Settings


async def list_(settings: Settings, output: Output) -> ExitCode:
    async with open_session(settings, drive=False) as session:
        system: SystemResult = await session.call("system_status", {})
    found = [engine.model_dump(mode="json") for engine in system.engines]
    output.result({"engines": found}, [_line(engine) for engine in system.engines])
    return ExitCode.OK


async def drain(settings: Settings, output: Output, *, engine: str, drained: bool) -> ExitCode:
    """Raises NotFound for an engine that is not in the settings."""
    async with open_session(settings, drive=False) as session:
        name = "drain_engine" if drained else "resume_engine"
        result: DrainResult = await session.call(name, {"engine": engine})
    output.result(result.model_dump(mode="json"), [result.text()])
    return ExitCode.OK


def _line(engine: EngineItem) -> str:
    return "  ".join([engine.text(), engine.url, *([",".join(engine.labels)] if engine.labels else [])])
