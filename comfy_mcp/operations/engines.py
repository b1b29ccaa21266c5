"""Add and remove engines, and take them out of use and back, whoever drives them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from comfy_mcp.domain.errors import ErrorCode, InvalidInput, NotFound
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.judging import engine_named
from comfy_mcp.operations.shapes import AddEngineParams, DrainResult, EngineChangeResult, EngineParams
from comfy_mcp.places.protocol import ADD_ONE
from comfy_mcp.settings import Settings, engines_file
from comfy_mcp.settings.names import PREFIX


async def drain_engine(context: OperationContext, params: EngineParams) -> DrainResult:
    """The engine ends what it has and gets nothing new. Kept in the store: a restart changes nothing."""
    return await _set(context, params, drained=True)


async def resume_engine(context: OperationContext, params: EngineParams) -> DrainResult:
    return await _set(context, params, drained=False)


async def add_engine(context: OperationContext, params: AddEngineParams) -> EngineChangeResult:
    """Into the file of engines. Raises InvalidInput without one, or for an entry that is not valid."""
    settings = context.services.settings
    entry = {
        "url": params.url,
        "labels": list(params.labels),
        "token": params.token,
        "headers": params.headers,
    }
    path = _file(settings)
    given = {name: value for name, value in entry.items() if value}
    with _as_argument():
        settings.check_engine(params.engine, given)
        await asyncio.to_thread(engines_file.add_engine, path, params.engine, given, settings.entered)
    return EngineChangeResult(
        engine=params.engine, file=str(path), next_step="system_status shows it within seconds."
    )


async def remove_engine(context: OperationContext, params: EngineParams) -> EngineChangeResult:
    """From the file of engines: it ends what it has, and gets nothing new.

    Raises NotFound for an engine that is not in the file, InvalidInput without one or if it can't be edited.
    """
    path = _file(context.services.settings)
    engine = engine_named(context.services.engines.pool, params.engine)
    with _as_argument():
        removed = await asyncio.to_thread(engines_file.remove_engine, path, engine)
    if not removed:
        raise _unknown(context, engine)
    return EngineChangeResult(
        engine=engine,
        file=str(path),
        next_step="system_status shows it as drained until it has ended what it has.",
    )


def _file(settings: Settings) -> Path:
    if settings.engines_file is None:
        raise InvalidInput(
            "The engines are named by COMFYUI_URL, which no command changes.",
            next_step=f"Set {PREFIX}ENGINES_FILE to the path of a file instead; it need not exist yet.",
        )
    return settings.engines_file


@contextmanager
def _as_argument() -> Iterator[None]:
    """What the settings refuse is a fault of the call here, and not of the start."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(error.message, next_step=error.next_step) from None


def _unknown(context: OperationContext, engine: str) -> NotFound:
    known = ", ".join(context.services.engines.pool)
    return NotFound(
        f"There is no engine {engine!r}.",
        next_step=f"The engines are {known}." if known else ADD_ONE,
        code=ErrorCode.NOT_FOUND,
    )


async def _set(context: OperationContext, params: EngineParams, *, drained: bool) -> DrainResult:
    """Raises NotFound for an engine that is not in the settings."""
    engines = context.services.engines
    engine = engine_named(engines.equipment(), params.engine)
    if engine not in engines.pool:
        raise _unknown(context, engine)
    await engines.drain(engine, at=context.services.now_ms() if drained else None)
    return DrainResult(engine=engine, drained=drained)
