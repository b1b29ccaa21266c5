"""Take engines out of use and back, whoever drives them."""

from comfy_mcp.domain.errors import ErrorCode, NotFound
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.shapes import DrainResult, EngineParams


async def drain_engine(context: OperationContext, params: EngineParams) -> DrainResult:
    """The engine ends what it has and gets nothing new. Kept in the store: a restart changes nothing."""
    return await _set(context, params, drained=True)


async def resume_engine(context: OperationContext, params: EngineParams) -> DrainResult:
    return await _set(context, params, drained=False)


async def _set(context: OperationContext, params: EngineParams, *, drained: bool) -> DrainResult:
    """Raises NotFound for an engine that is not in the settings."""
    engines, engine = context.services.engines, EngineId(params.engine)
    if engine not in engines.pool:
        raise NotFound(
            f"There is no engine {engine!r}.",
            next_step=f"The engines are {', '.join(engines.pool)}.",
            code=ErrorCode.NOT_FOUND,
        )
    await engines.drain(engine, at=context.services.now_ms() if drained else None)
    return DrainResult(engine=engine, drained=drained)
