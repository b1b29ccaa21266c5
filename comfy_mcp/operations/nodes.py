"""Find node classes, and show one in full."""

from collections.abc import Iterable, Sequence

from comfy_mcp.domain.cursors import cursor_of, invalid_cursor, position_in
from comfy_mcp.domain.errors import EngineUnreachable, ErrorCode, NotFound
from comfy_mcp.domain.inputs import InputSpec
from comfy_mcp.domain.nearest import nearest
from comfy_mcp.domain.object_info import ClassInfo, ObjectInfo
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.shapes import FindNodesParams, FoundNodesResult, NodeInputItem, NodeItem
from comfy_mcp.places.protocol import CHECK_IT_RUNS

_ABOUT, _CHOICES, _SHOWN = 200, 20, 100


async def find_nodes(context: OperationContext, params: FindNodesParams) -> FoundNodesResult:
    """By words, or by the types that go in and out; or one by its name.

    Raises NotFound for a name that no class has, EngineUnreachable without an engine.
    """
    known, notes = await context.services.engines.last_lists()
    if (info := known.all) is None:
        step = context.services.engines.blocked(None) or CHECK_IT_RUNS
        raise EngineUnreachable("No engine answers, so its node classes are not known.", next_step=step)
    result = await _found(context, params, info)
    return result.model_copy(update={"warnings": [*result.warnings, *notes]}) if notes else result


async def _found(context: OperationContext, params: FindNodesParams, info: ObjectInfo) -> FoundNodesResult:
    after = 0 if params.cursor is None else _place(params.cursor)
    asked = params.name or _class_and_input(info, params.query or "")
    if asked:
        return _one(info, asked.strip(), params.limit, after)
    names: Iterable[str] = sorted(info.classes)
    unknown: Sequence[str] = ()
    if params.query is not None:
        names, unknown = await context.services.finder.ranked_nodes(info, params.query)
    found = [each for name in names if _fits(each := info.classes[name], params)]
    rest = found[after : after + params.limit]
    return FoundNodesResult(
        nodes=[_short(each, info) for each in rest],
        total=len(found),
        next_cursor=cursor_of([after + params.limit]) if len(found) > after + params.limit else None,
        next_step=None if rest else 'Call find_nodes(query="…") with other words.',
        warnings=[f"No class has the word {', '.join(map(repr, unknown))[:_SHOWN]}; these have the others."]
        if unknown and rest
        else [],
    )


def _one(info: ObjectInfo, asked: str, limit: int, after: int) -> FoundNodesResult:
    """A class, or CLASS.INPUT with the choices of that input, a page at a time."""
    name, _, given = asked.partition(".") if asked not in info.classes else (asked, "", "")
    known = _class(info, name)
    if known is None:
        near = nearest(name[:_SHOWN], info.classes)
        hint = f" Nearest: {', '.join(near)}." if near else ""
        raise NotFound(
            f"The engine has no node class {name!r:.100}.{hint}",
            next_step='Call find_nodes(query="…") to search.',
            code=ErrorCode.NOT_FOUND,
            details={"nearest": list(near)},
        )
    if not given:
        inputs = [_input(each, _CHOICES, 0) for each in known.inputs.values()]
        return FoundNodesResult(nodes=[_short(known, info).model_copy(update={"inputs": inputs})], total=1)
    spec = known.inputs.get(given)
    if spec is None:
        raise NotFound(
            f"{known.name} has no input {given!r:.100}.",
            next_step=f"Its inputs are: {', '.join(known.inputs)}.",
            code=ErrorCode.NOT_FOUND,
        )
    more = after + limit < len(_choices(spec))
    node = NodeItem(name=known.name, inputs=[_input(spec, limit, after)])
    return FoundNodesResult(nodes=[node], total=1, next_cursor=cursor_of([after + limit]) if more else None)


def _class(info: ObjectInfo, name: str) -> ClassInfo | None:
    """In another case too, where only one class is called so."""
    if name in info.classes:
        return info.classes[name]
    same = [each for each in info.classes if each.casefold() == name.casefold()]
    return info.classes[same[0]] if len(same) == 1 else None


def _class_and_input(info: ObjectInfo, query: str) -> str | None:
    """Words for a search that name one input of a class: CLASS.INPUT."""
    name, dot, given = query.strip().partition(".")
    known = _class(info, name) if dot else None
    return query if known is not None and given in known.inputs else None


def _fits(known: ClassInfo, params: FindNodesParams) -> bool:
    gives = (known.output_types or ()) if params.produces else ()
    if params.produces and not any(_same(params.produces, each) for each in gives):
        return False
    takes = (each.kind for each in known.inputs.values()) if params.accepts else ()
    return not params.accepts or any(_same(params.accepts, each) for each in takes)


def _same(asked: str, declared: str | None) -> bool:
    """A declaration may name several types with commas."""
    return declared is not None and asked.strip().upper() in declared.upper().split(",")


def _short(known: ClassInfo, info: ObjectInfo) -> NodeItem:
    about = " ".join(known.description.split())
    return NodeItem(
        name=known.name,
        category=known.category or None,
        about=about if len(about) <= _ABOUT else f"{about[: _ABOUT - 1]}…",
        outputs=[each or "?" for each in known.output_types or ()],
        paid=known.name in info.partner_classes,
    )


def _input(spec: InputSpec, limit: int, after: int) -> NodeInputItem:
    choices = _choices(spec)
    tooltip = spec.extra.get("tooltip")
    return NodeInputItem(
        name=spec.name,
        type=spec.kind or "?",
        optional=not spec.required,
        default=spec.extra.get("default"),
        minimum=spec.minimum,
        maximum=spec.maximum,
        choices=list(choices[after : after + limit]),
        choice_count=len(choices) or None,
        about=tooltip[:_ABOUT] if isinstance(tooltip, str) else None,
    )


def _choices(spec: InputSpec) -> Sequence[object]:
    listed = spec.options or spec.extra.get("options")
    if spec.choices is not None:
        return tuple(spec.choices)
    return tuple(listed) if isinstance(listed, list | tuple) else ()


def _place(cursor: str) -> int:
    match position_in(cursor):
        case [int() as place] if place >= 0:
            return place
        case _:
            raise invalid_cursor()
