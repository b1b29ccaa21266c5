"""A workflow is judged by the engines that may run it: it is good if one of them finds it good."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from comfy_mcp.domain.errors import InvalidGraph, InvalidInput
from comfy_mcp.domain.ids import ClientId, EngineId
from comfy_mcp.domain.judging import Judged
from comfy_mcp.domain.needs import Equipment, Wish
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.operations.services import Services

FRESH_S = 5.0
"""Before a graph is refused for an unknown name, a node list older than this is asked for again."""


async def judged_by_engines(
    services: Services, raw: object, text: bytes, wish: Wish, *, client: ClientId
) -> tuple[ObjectInfo | None, Judged]:
    """By the first engine that finds nothing missing, else by the one that finds least. `text` is `raw` as
    JSON. The node list is that engine's, None if no engine answers.

    Raises InvalidGraph if no engine would run it, InvalidInput for a wish that no engine fulfils, and what
    `Checker.judge` raises.
    """
    able = _wished(services, wish)
    known = await services.engines.node_lists()
    engine, judged = await _best(services, raw, text, able, known, client)
    if judged.report.may_be_stale:  # a node or a model may have come since
        fresh = await services.engines.node_lists(max_age_s=FRESH_S)
        if any(fresh.get(each) is not info for each, info in known.items()):
            known = fresh
            engine, judged = await _best(services, raw, text, able, known, client)
    if (error := judged.report.error()) is not None:
        if len(able) == 1:
            raise error
        engines = {each: replace(able[each], nodes=known.get(each)) for each in able}
        raise _of_all(error, engine, judged, engines)
    info = None if engine is None else known[engine]
    return info, replace(judged, needs=replace(judged.needs.judged_by(info), wish=wish))


def _wished(services: Services, wish: Wish) -> Mapping[EngineId, Equipment]:
    """The engines that the wish allows."""
    everyone = services.engines.equipment()
    if wish.engine is not None and wish.engine not in everyone:
        raise InvalidInput(
            f"There is no engine {wish.engine!r}.",
            next_step=f"Ask for one of {', '.join(everyone)}, or for none.",
        )
    able = {engine: each for engine, each in everyone.items() if wish.allows(each)}
    if not able:
        labels = sorted({label for each in everyone.values() for label in each.labels})
        raise InvalidInput(
            "No engine is what the submit asks for.",
            next_step=f"Engines: {', '.join(everyone)}. Labels: {', '.join(labels) or 'none'}.",
        )
    return able


async def _best(
    services: Services,
    raw: object,
    text: bytes,
    able: Collection[EngineId],
    known: Mapping[EngineId, ObjectInfo],
    client: ClientId,
) -> tuple[EngineId | None, Judged]:
    """What the engine that finds least says of it, and which that is; None without any node list."""
    best: tuple[EngineId | None, Judged] | None = None
    error: InvalidGraph | None = None
    asked: Sequence[EngineId | None] = [each for each in able if each in known]
    for engine in asked or [None]:
        try:
            info = None if engine is None else known[engine]
            judged = await services.checker.judge(raw, text, info, client=client)
        except InvalidGraph as fault:  # it can't even be converted with these nodes
            error = error or fault
            continue
        if judged.report.runnable and not judged.report.problem_count and not judged.report.may_be_stale:
            return engine, judged
        if best is None or _rank(judged) < _rank(best[1]):
            best = engine, judged
    if best is None:
        assert error is not None
        raise error
    return best


def _rank(judged: Judged) -> tuple[bool, int, int]:
    report = judged.report
    return not report.runnable, len(report.missing.classes), report.problem_count


def _of_all(
    error: InvalidGraph, asked: EngineId | None, judged: Judged, engines: Mapping[EngineId, Equipment]
) -> InvalidGraph:
    """The error of the engine that comes closest, `asked`, with what the others lack."""
    said, details = ["No engine can run the workflow."], {}
    for engine, each in engines.items():
        lack = judged.needs.judged_by(each.nodes).lack(each)
        details[engine] = [] if lack is None else list(lack.classes)
        if engine == asked:
            said.append(f"Engine {engine}: {error.message}")
        elif each.nodes is None:
            said.append(f"Engine {engine} does not answer.")
        else:
            said.append(f"Engine {engine} would refuse it too." if lack is None else lack.sentence)
    return InvalidGraph(
        " ".join(said),
        next_step=error.next_step,
        problems=error.problems,
        code=error.code,
        details={**error.details, "engines": details},
    )
