"""The listing commands: models, outputs, workflows, queue."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from comfy_mcp.cli.exits import ExitCode
from comfy_mcp.cli.output import IN_COMMANDS, Output
from comfy_mcp.cli.saving import prepare_place, save_items
from comfy_mcp.cli.session import open_session
from comfy_mcp.cli.show import (
    described_lines,
    found_lines,
    models_lines,
    nodes_lines,
    outputs_lines,
    queue_lines,
    workflows_lines,
)
from comfy_mcp.operations.shapes import OutputsResult
from comfy_mcp.settings import Settings


async def models(settings: Settings, output: Output, *, arguments: Mapping[str, Any]) -> ExitCode:
    return await _list(settings, output, "list_models", arguments, models_lines)


async def workflows(settings: Settings, output: Output, *, arguments: Mapping[str, Any]) -> ExitCode:
    return await _list(settings, output, "list_workflows", arguments, workflows_lines)


async def queue(settings: Settings, output: Output) -> ExitCode:
    return await _list(settings, output, "queue", {}, queue_lines)


async def find(settings: Settings, output: Output, *, arguments: Mapping[str, Any]) -> ExitCode:
    return await _list(settings, output, "find_workflow", arguments, found_lines)


async def describe(settings: Settings, output: Output, *, arguments: Mapping[str, Any]) -> ExitCode:
    return await _list(settings, output, "describe_workflow", arguments, described_lines)


async def nodes(settings: Settings, output: Output, *, arguments: Mapping[str, Any]) -> ExitCode:
    return await _list(settings, output, "find_nodes", arguments, nodes_lines)


async def outputs(
    settings: Settings, output: Output, *, arguments: Mapping[str, Any], save_to: Path | None
) -> ExitCode:
    """List outputs; with `save_to` also fetch them, and print the paths."""
    if save_to is not None:
        prepare_place(save_to)
    async with open_session(settings, drive=False) as session:
        result: OutputsResult = await session.call("list_outputs", arguments)
        saved = await save_items(session, result.outputs, save_to) if save_to is not None else None
    if saved is None:
        output.answer(result, outputs_lines(result))
    else:
        paths = [str(path) for path in saved]
        output.warn(result.warnings)
        output.result(result.model_dump(mode="json", context=IN_COMMANDS) | {"saved": paths}, paths)
    return ExitCode.OK


async def _list(
    settings: Settings,
    output: Output,
    operation: str,
    arguments: Mapping[str, Any],
    lines: Callable[[Any], list[str]],
) -> ExitCode:
    async with open_session(settings, drive=False) as session:
        result = await session.call(operation, arguments)
    output.answer(result, lines(result))
    return ExitCode.OK
