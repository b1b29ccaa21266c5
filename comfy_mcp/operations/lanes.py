"""A submit that asks for a service instead of one of the engines."""

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import Denied, ErrorCode, InvalidInput
from comfy_mcp.domain.ids import AUTO, COMFY_API, LOCAL, SALAD, ClientId
from comfy_mcp.domain.judging import Judged
from comfy_mcp.domain.needs import NO_WISH, Wish
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.operations.best_engine import best_engine, lists_for
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.json_texts import as_json
from comfy_mcp.operations.services import Services

UNCHECKED = (
    "No engine here has all that the workflow needs: it was not checked, and the service may refuse it."
)

CONFIGURED_BY = {
    COMFY_API: "COMFY_BRIDGE_COMFY_API_URL",
    SALAD: "COMFY_BRIDGE_SALAD_API_KEY, COMFY_BRIDGE_SALAD_ORG_NAME and COMFY_BRIDGE_SALAD_QUEUE",
}


def require_lane(context: OperationContext, lane: str, wish: Wish) -> None:
    """Raises InvalidInput for a lane that is not there (`lane_unavailable`), or of which an engine is asked
    for, and Denied without the right to spend."""
    if lane in {LOCAL, AUTO}:
        return
    names = context.services.engines.lanes.names
    if lane not in names:
        raise InvalidInput(
            f"gpu={lane!r}: that service is not configured.",
            next_step=f"Submit with gpu={' or '.join(repr(name) for name in (LOCAL, *names))}, or set "
            f"{CONFIGURED_BY[lane]} where the bridge runs.",
            code=ErrorCode.LANE_UNAVAILABLE,
        )
    if wish != NO_WISH:
        raise InvalidInput(
            f"gpu={lane!r}: a service has no engines to choose from.",
            next_step="Leave out engine, labels and notOn, or gpu.",
        )
    if Right.SPEND not in context.caller.rights:
        raise Denied(
            f"gpu={lane!r} may cost money. That needs the right {Right.SPEND.value!r}",
            next_step=f"Submit with gpu={LOCAL!r}, or use a key with this right: "
            "`comfy-bridge keys add NAME --right submit --right spend …` makes one.",
        )


async def judged_for_lane(
    services: Services, raw: object, text: bytes, *, client: ClientId
) -> tuple[ObjectInfo | None, Judged, tuple[str, ...]]:
    """By the engines where one finds the workflow good, with its node list; where each lacks a node or a
    model, by its form alone, with a warning: a service has its own. Raises InvalidGraph."""
    known = await lists_for(services, raw)
    engine, judged = await best_engine(services.checker, raw, text, known, client=client)
    error = judged.error()
    if error is None:
        return None if engine is None else known[engine], judged, ()
    if not judged.report.may_be_stale:
        raise error
    graph, notes = judged.graph.raw, judged.warnings
    judged = await services.checker.judge(graph, (await as_json(graph))[1], None, client=client)
    if (error := judged.error()) is not None:
        raise error
    return None, judged, (*notes, UNCHECKED)
