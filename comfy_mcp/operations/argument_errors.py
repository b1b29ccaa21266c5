"""Wrong arguments, explained: what was given, what is allowed, and a call that would do."""

import json
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.shown import shown
from comfy_mcp.operations.shapes import Params

MOST = 5
"""Arguments that one error explains."""

MAX_ENTRIES, MAX_TEXT = 1_000, 65_536
"""Of one argument, with all that it holds. The longest that an operation takes has 20,000 characters."""

_WORDS = {
    "missing": "required, and missing",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "must be text in Unicode",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "list_type": "must be a list",
    "int_parsing_size": "must be a smaller number",
    "finite_number": "must be a finite number",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
    "string_pattern_mismatch": "must match {pattern}",
    "literal_error": "must be {expected}",
    "less_than_equal": "must be at most {le}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} characters",
}
_EXAMPLES: dict[str, Any] = {
    "workflow_id": "6f1c2b5e",
    "output_id": "3f9a1c77",
    "limit": 20,
    "cursor": "WzE3XQ==",
    "timeout_s": 45,
    "queue_timeout_s": 600,
    "run_timeout_s": 600,
    "max_px": 512,
    "since": 1_795_500_000_000,
    "query": "upscale",
    "inputs": {"prompt": "a red fox"},
    "matrix": {"cfg": [4, 7]},
    "variations": 4,
    "save_to": "art/fox.png",
}
_FORMS = {
    "workflow": "a graph as an object, or as text a name, a path, job:ID or the graph as JSON",
    "all": '"mine": all of yours that have not ended',
}
"""What an argument of several kinds may be."""

_OF_ONE: dict[str, dict[str, Any]] = {
    "submit_workflow": {"workflow": "text-to-image"},
    "describe_workflow": {"name": "text-to-image"},
    "add_engine": {"engine": "gpu-box", "url": "http://gpu-box:8188"},
}
"""What a call of the operation needs in any case."""


def require_small(operation: str, params: type[Params], name: str, value: object) -> None:
    """Raises InvalidInput for an argument that is too large to be looked at: a million wrong entries would be
    a million errors."""
    if not is_small(value):
        limits = f"at most {MAX_ENTRIES} entries and {MAX_TEXT} characters"
        raise InvalidInput(
            f"{operation}: {name}: too large, {limits}, not {shown(value)}.",
            next_step=_next_step(operation, params, {_field(params, name)}),
        )


def is_small(value: object) -> bool:
    """Whether it is within MAX_ENTRIES and MAX_TEXT. Looks at no more of it than that."""
    entries, chars, held = MAX_ENTRIES, MAX_TEXT, [value]
    while held:
        each: Any = held.pop()
        if isinstance(each, str):
            chars -= len(each)
        elif isinstance(each, Mapping | list | tuple):
            entries -= len(each)
            if entries >= 0:
                held += [*each, *(each.values() if isinstance(each, Mapping) else ())]
        if entries < 0 or chars < 0:
            return False
    return True


def explained(operation: str, params: type[Params], error: ValidationError) -> tuple[str, str]:
    """The message and the next step."""
    wrong = error.errors(include_url=False)  # not many: see `require_small`
    faults: dict[str, Any] = {}
    for item in wrong:
        faults.setdefault(str(item["loc"][0]) if item["loc"] else "arguments", item)
    told = "; ".join(f"{name}: {_fault(name, item)}" for name, item in list(faults.items())[:MOST])
    return f"{operation}: {told}.", _next_step(operation, params, {_field(params, name) for name in faults})


def _next_step(operation: str, params: type[Params], names: set[str]) -> str:
    example = _example(operation, params, names)
    pages = "limit" in names and "cursor" in params.model_fields
    page = " `cursor` gives the next page: the nextCursor of the one before." if pages else ""
    return f"Correct the arguments and call again, such as {example}.{page}"


def _fault(name: str, item: Any) -> str:
    of_several = name in _FORMS and item["type"] in {"string_type", "dict_type"}
    said = f"must be {_FORMS[name]}" if of_several else _WORDS.get(item["type"])
    limits = {name: f"{at:g}" if isinstance(at, float) else at for name, at in item.get("ctx", {}).items()}
    text = said.format(**limits) if said is not None else str(item["msg"]).removeprefix("Value error, ")
    if item["type"] in {"missing", "too_short"}:
        return text
    if name == "matrix" and len(item["loc"]) == 2:
        text = f"{shown(item['loc'][1])} {text}"
    return f"{text}, not {shown(item['input'])}" if item["input"] != "" else text


def _field(params: type[Params], given: str) -> str:
    """The snake_case name of an argument."""
    fields = params.model_fields.items()
    aliases = {name: getattr(field.validation_alias, "choices", ()) for name, field in fields}
    return next((name for name, choices in aliases.items() if given in choices), given)


def _example(operation: str, params: type[Params], names: set[str]) -> str:
    shown, needed = [], _OF_ONE.get(operation, {})
    for name, field in params.model_fields.items():
        value = next(iter(_choices(field.annotation)), needed.get(name, _EXAMPLES.get(name)))
        if value is not None and (field.is_required() or name in names or name in needed):
            shown.append(f"{name}={json.dumps(value)}")
    return f"{operation}({', '.join(shown)})"


def _choices(annotation: Any) -> tuple[Any, ...]:
    """Of a Literal, or of one that may be left out."""
    kinds = (annotation, *get_args(annotation))
    return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())
