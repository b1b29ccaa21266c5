"""A workflow is judged by the engines that may run it: it is good if one of them finds it good."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace

from comfy_mcp.domain.errors import InvalidGraph, InvalidInput
from comfy_mcp.domain.ids import ClientId, EngineId
from comfy_mcp.domain.judging import Judged
from comfy_mcp.domain.needs import Equipment, Needs, Wish
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.shown import all_shown, first_sentences
from comfy_mcp.domain.ui_format import is_subgraph_id
from comfy_mcp.operations.best_engine import FRESH_S, best_engine, lists_for
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import SubmitParams

NAMED = 5
"""Engines that one sentence names."""

Present = Callable[[ObjectInfo | None, Judged], Awaitable[Collection[tuple[str, str]]]]


async def judged_by_engines(
    services: Services, raw: object, text: bytes, wish: Wish, *, client: ClientId, present: Present
) -> tuple[ObjectInfo | None, Judged]:
    """By the first engine that finds nothing missing, else by the one that finds least. `text` is `raw` as
    JSON. The node list is that engine's, None if no engine answers. `present` finds inputs whose files are
    there though no list has them: an error has no doubts about these.

    Raises InvalidGraph if no engine would run it, InvalidInput for a wish that no engine fulfils, and what
    `Checker.judge` raises.
    """
    able = _wished(services, wish) if wish else None
    known = await lists_for(services, raw)
    engine, judged = await best_engine(services.checker, raw, text, known, client=client, able=able)
    if judged.report.may_be_stale:  # a node or a model may have come since
        fresh = await services.engines.node_lists(max_age_s=FRESH_S)
        if any(known.get(each) is not info for each, info in fresh.items()) or len(fresh) != len(known):
            known = fresh
            engine, judged = await best_engine(services.checker, raw, text, known, client=client, able=able)
    if judged.report.may_be_stale and engine is not None and (old := services.engines.old_list(engine)):
        judged = replace(judged, warnings=(*judged.warnings, old))
    info = None if engine is None else known[engine]
    if not judged.report.runnable and judged.report.doubts:
        report = judged.report.without_doubts(await present(info, judged))
        judged = replace(judged, report=report)
    if (error := judged.error()) is not None:
        able = services.engines.equipment() if able is None else able
        if len(able) != 1:
            engines = {each: replace(able[each], nodes=known.get(each)) for each in able}
            error = _of_all(error, engine, judged, engines, services.engines.asleep)
        raise _refused(error, judged, known, able)
    needs = judged.needs.judged_by(info)
    needs = needs if needs.wish == wish else replace(needs, wish=wish)
    if needs is judged.needs:
        return info, judged
    return info, replace(judged, needs=needs, warnings=judged.warnings + _not_there(services, wish))


def engines_for(services: Services, needs: Needs) -> list[EngineId]:
    """Of several engines those that are known to have what a workflow needs, and are as it asks."""
    if not services.engines.several:
        return []
    engines = services.engines.equipment().values()
    return [each.engine for each in engines if each.nodes is not None and needs.met_by(each)]


def with_names(engines: Callable[[], Mapping[EngineId, Equipment]], params: SubmitParams) -> SubmitParams:
    """Engines and labels as they are called: callers write both in any case."""
    if params.engine is None and not params.not_on and not params.labels:
        return params
    known = engines()
    labels = {label for each in known.values() for label in each.labels}
    found = {
        "engine": None if params.engine is None else engine_named(known, params.engine),
        "not_on": [engine_named(known, each) for each in params.not_on],
        "labels": [named(labels, each) for each in params.labels],
    }
    return params.model_copy(update=found)


def engine_named(engines: Collection[EngineId], given: str) -> EngineId:
    """The engine that is meant."""
    return EngineId(named(engines, given))


def named(known: Collection[str], given: str) -> str:
    """The name that is meant: in any case. What is none of them stays as it is."""
    if given in known:
        return given
    meant = [each for each in known if each.casefold() == given.strip().casefold()]
    return meant[0] if len(meant) == 1 else given


def _wished(services: Services, wish: Wish) -> Mapping[EngineId, Equipment]:
    """The engines that the wish allows. While there is none at all, any that comes may be it."""
    everyone = services.engines.equipment()
    if everyone and wish.engine is not None and wish.engine not in everyone:
        raise InvalidInput(
            f"There is no engine {wish.engine!r}.",
            next_step=f"Ask for one of {', '.join(everyone)}, or for none.",
        )
    able = {engine: each for engine, each in everyone.items() if wish.allows(each)}
    if everyone and not able:
        labels = sorted({label for each in everyone.values() for label in each.labels})
        raise InvalidInput(
            f"No engine fits {_asked(wish)}.",
            next_step=f"Engines: {', '.join(everyone)}. Labels: {', '.join(labels) or 'none'}.",
        )
    return able


def _not_there(services: Services, wish: Wish) -> tuple[str, ...]:
    """A warning about engines that the workflow is to avoid and that there are not: a misspelt name keeps it
    from no engine. It is no error, because the engine that is avoided may have been removed."""
    everyone = services.engines.equipment()
    strange = [each for each in wish.not_on if each not in everyone]
    if not everyone or not strange:
        return ()
    return (f"notOn: there is no engine {all_shown(strange)}. The engines are {all_shown([*everyone])}.",)


def _asked(wish: Wish) -> str:
    """In the words of the submit."""
    named = {"engine": [wish.engine] if wish.engine else [], "labels": wish.labels, "notOn": wish.not_on}
    return "; ".join(f"{word}: {', '.join(each)}" for word, each in named.items() if each)


def _refused(
    error: InvalidGraph,
    judged: Judged,
    known: Mapping[EngineId, ObjectInfo],
    able: Collection[EngineId],
) -> InvalidGraph:
    """The error, with engines that have what is missing and were not asked for, or of which nobody knows."""
    missing = judged.report.missing
    have = [each for each, info in known.items() if each not in able and missing.is_in(info)]
    unknown = [each for each in able if each not in known]
    if missing.subgraphs or not missing or not (have or unknown):
        return error
    if have:
        way = f"Engines that have it: {', '.join(have[:NAMED])}. Ask for one of them, or for none."
    else:
        names = ", ".join(unknown[:NAMED])
        way = f"Engines that sleep or do not answer may have it: {names}. If one has, ask for that one."
    return InvalidGraph(
        error.message,
        next_step=f"{way} {error.next_step}",
        problems=error.problems,
        code=error.code,
        details=error.details,
    )


def _of_all(
    error: InvalidGraph,
    asked: EngineId | None,
    judged: Judged,
    engines: Mapping[EngineId, Equipment],
    asleep: Collection[EngineId],
) -> InvalidGraph:
    """The error of the engine that comes closest, `asked`, with what the others lack."""
    said: list[str] = []
    details = {}
    classes = tuple(each for each in judged.needs.node_classes if not is_subgraph_id(each))
    needs = replace(judged.needs, node_classes=classes)
    for engine, each in engines.items():
        lack = needs.judged_by(each.nodes).lack(each)
        details[engine] = [] if lack is None else list(lack.classes)
        if engine == asked:
            said.insert(0, f"Engine {engine}: {error.message}")
        elif each.nodes is None:
            said.append(f"Engine {engine} {'sleeps' if engine in asleep else 'does not answer'}.")
        else:
            said.append(f"Engine {engine} would refuse it too." if lack is None else lack.sentence)
    return InvalidGraph(
        f"No engine can run the workflow. {first_sentences(said, 'engines')}",
        next_step=error.next_step,
        problems=error.problems,
        code=error.code,
        details={**error.details, "engines": details},
    )
