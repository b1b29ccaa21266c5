"""Reads arguments as callers mean them, where they write them in another way than the operations do.

Language models and strict clients send null and "" for what they do not want, other case, whole numbers of
seconds for milliseconds, ids in quotes, shortened, or as the URIs that we gave. Every surface passes here,
once for each call. Where a value was changed, a warning says how.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin
from urllib.parse import unquote

from pydantic import AliasChoices

from comfy_mcp.domain import large_json
from comfy_mcp.domain.file_inputs import path_of_url
from comfy_mcp.domain.graph import wrapped_graph
from comfy_mcp.domain.nearest import nearest
from comfy_mcp.domain.parameters import USUAL_NAMES
from comfy_mcp.domain.shown import shown
from comfy_mcp.domain.ui_format import is_ui_format
from comfy_mcp.operations.argument_errors import require_small
from comfy_mcp.operations.dates import ms_of
from comfy_mcp.operations.json_texts import JSON, json_in
from comfy_mcp.operations.shapes import Params

MAX_UNKNOWN = 5
"""Unknown arguments that one warning names."""

_SHOWN = 60
_NOTHING = frozenset({"", "null", "none", "undefined"})
_LONGEST_NOTHING = 80
_SPELLINGS = {
    "canceled": "cancelled",
    "success": "completed",
    "complete": "completed",
    "succeeded": "completed",
    "pending": "queued",
    "waiting": "queued",
    "in_progress": "running",
    "in progress": "running",
    "processing": "running",
    "aborted": "cancelled",
    "interrupted": "cancelled",
    "error": "failed",
    "pictures": "image",
    "picture": "image",
    "png": "image",
    "jpg": "image",
    "mp4": "video",
    "mp3": "audio",
    "sounds": "audio",
    "sound": "audio",
}
_QUOTES = "\"'`<> \t\r\n"
_IN_URI = re.compile(r"(?:workflows?|outputs?)/([^/?#]+)")
_SECONDS = range(10**9, 10**11)
"""As seconds: the years 2001 to 5138. As milliseconds: January 1970 to 1973, which nobody means."""
_LONGEST_IDS = 8_192
_HOURS = 10_000
"""Seconds from which a multiple of 1,000 looks like milliseconds."""


@dataclass(frozen=True, slots=True)
class _Argument:
    """`name` as pydantic knows it. `choices`: the only values. `text`: any text is a value. `holds`: lists or
    objects are; `texts`: lists of texts. `free`: these hold whatever a caller likes, and may be large."""

    name: str
    names: tuple[str, ...]
    required: bool
    choices: tuple[str, ...]
    text: bool
    holds: bool
    texts: bool
    free: bool


def repaired(
    operation: str, params: type[Params], given: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The arguments as `params` defines them, and warnings. What can't be understood stays as it is.

    Raises InvalidInput for one that is too large."""
    known = _arguments(params)
    taken: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    warnings: list[str] = []
    for name, value in given.items():
        argument = known.get(name)
        if argument is None:
            unknown[name] = value
        elif argument.required or not _is_nothing(argument, value):
            taken[name] = found = _repaired(operation, params, argument, name, value)
            if found is not value and found != value:
                warnings.append(f"{name} {shown(value)} was read as {shown(found)}.")
            if argument.name.endswith("_s") and (seconds := _thousands(found)):
                warnings.append(
                    f"{name} {seconds} is {seconds / 3600:.1f} hours. It is in seconds: "
                    f"{seconds // 1000} if milliseconds were meant."
                )
    if "workflow" in known and not taken.keys() & {"workflow", "path"}:
        _take_loose_graph(unknown, taken, warnings)
    _take_loose_inputs(unknown, taken, warnings)
    _take_only_argument(operation, params, unknown, taken, warnings)
    warnings.extend(_unknown(operation, params, unknown))
    return taken, tuple(warnings)


def _repaired(operation: str, params: type[Params], argument: _Argument, name: str, value: object) -> object:
    if not argument.free:
        require_small(operation, params, name, value)
    found = _REPAIRS.get(argument.name, _as_it_is)(argument, value)
    if not argument.free and found is not value:  # the text of a list is shorter than what it holds
        require_small(operation, params, name, found)
    return found


@cache
def _arguments(params: type[Params]) -> Mapping[str, _Argument]:
    """By every name that an argument has."""
    found = {}
    for name, field in params.model_fields.items():
        alias = field.validation_alias
        names = tuple(str(each) for each in alias.choices) if isinstance(alias, AliasChoices) else (name,)
        several = get_origin(field.annotation) in (Union, UnionType)
        kinds = get_args(field.annotation) if several else (field.annotation,)
        literals = [field.annotation, *kinds]
        choices = tuple(each for kind in literals if get_origin(kind) is Literal for each in get_args(kind))
        holds = str not in kinds and any(get_origin(kind) in (list, dict) for kind in kinds)
        free, texts = _may_hold_anything(field.annotation), list[str] in kinds
        argument = _Argument(name, names, field.is_required(), choices, str in kinds, holds, texts, free)
        found.update(dict.fromkeys((*names, name), argument))
    return found


def _may_hold_anything(annotation: Any) -> bool:
    return annotation is Any or any(map(_may_hold_anything, get_args(annotation)))


def _is_nothing(argument: _Argument, value: object) -> bool:
    """An argument that the caller does not want."""
    if not isinstance(value, str):
        return value is None
    text = value.strip().lower() if len(value) <= _LONGEST_NOTHING else value
    any_text = argument.text and not argument.choices and argument.name not in _NEVER_NULL
    return not text if any_text else text in _NOTHING


_NEVER_NULL = frozenset({"cursor", "engine"})
"""Texts that are never the word null."""


def _as_it_is(argument: _Argument, value: object) -> object:
    """The one of the choices that is meant; the list or the object that a text is."""
    if argument.holds and isinstance(value, str) and len(value) <= large_json.LARGE_BYTES:
        found = json_in(value)
        return _listed(found) if argument.texts and isinstance(found, str) else found
    if not isinstance(value, str) or not argument.choices or value in argument.choices:
        return value
    plain = value.strip(_QUOTES).lower()
    plain = _SPELLINGS.get(plain, plain)
    spellings = (plain, plain.removesuffix("s"), f"{plain}s")
    return next((each for each in spellings if each in argument.choices), value)


def _listed(text: str) -> list[str]:
    """The names or ids in a text: none has a comma."""
    return [each.strip(_QUOTES) for each in text.split(",") if each.strip(_QUOTES)]


def _id(argument: _Argument, value: object) -> object:
    """The id alone, of a URI, a path, or an object that has it."""
    if isinstance(value, str) and _PLAIN_ID.fullmatch(value):
        return value
    value = json_in(value) if isinstance(value, str) and len(value) <= _LONGEST_IDS else value
    if isinstance(value, Mapping):
        value = next((value[name] for name in argument.names if name in value), value)
    if not isinstance(value, str) or "," in value:
        return value
    plain = plain_id(value)
    if argument.name == "workflow_id" and (ids := UUID.findall(plain)):  # with words around it
        return ",".join(dict.fromkeys(map(str.lower, ids)))
    return plain


def _truth(argument: _Argument, value: object) -> object:
    """By these two words only: any other must never be a yes."""
    return _TRUTH.get(value.strip().lower(), value) if isinstance(value, str) else value


_TRUTH = {"true": True, "false": False}


def plain_id(value: str) -> str:
    """The id alone, of a URI or a path that has it."""
    plain = value.strip(_QUOTES)
    found = _IN_URI.search(plain)
    plain = unquote(found[1]) if found is not None else plain
    plain = plain.removeprefix("job:").removeprefix("output:").removesuffix("...").removesuffix("…")
    return plain.lower() if UUID.fullmatch(plain) else plain


def _path(argument: _Argument, value: object) -> object:
    if not isinstance(value, str):
        return value
    plain = value.strip()
    plain = plain[1:-1] if len(plain) > 1 and plain[0] == plain[-1] and plain[0] in "\"'`" else plain
    return path_of_url(plain) if plain[:5].lower() == "file:" else plain


def _since(argument: _Argument, value: object) -> object:
    """Milliseconds, of what can only be seconds, or of a date (of UTC, where it says no zone)."""
    try:
        seconds = float(value) if isinstance(value, str | int | float) else 0.0
    except ValueError:
        return _of_date(str(value))
    except OverflowError:
        return value
    return round(seconds * 1000) if _SECONDS.start <= seconds < _SECONDS.stop else value


def _of_date(text: str) -> object:
    try:
        return ms_of(text.strip(_QUOTES))
    except ValueError:
        return text


def _thousands(value: object) -> int:
    """The seconds that look like milliseconds; 0 for all others."""
    try:
        seconds = int(float(value)) if isinstance(value, str | int | float) else 0
    except (ValueError, OverflowError):
        return 0
    return seconds if seconds >= _HOURS and not seconds % 1000 else 0


UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
"""A whole id of a workflow or an output."""
_PLAIN_ID = re.compile(UUID.pattern)

_REPAIRS: Mapping[str, Callable[[_Argument, object], object]] = {
    "workflow_id": _id,
    "output_id": _id,
    "path": _path,
    "save_to": _path,
    "since": _since,
    "dry_run": _truth,
}


def _take_loose_graph(unknown: dict[str, Any], taken: dict[str, Any], warnings: list[str]) -> None:
    """A workflow that stands where the arguments should: under `prompt`, as ComfyUI takes it, or bare; also
    the file that the editor saves, and what other tools put around either."""
    nodes = _nodes_in(unknown)
    inner, where = wrapped_graph(unknown)
    prompt = unknown.get("prompt")
    if "prompt" not in nodes and (
        isinstance(prompt, Mapping) or (isinstance(prompt, str) and prompt.lstrip().startswith(JSON))
    ):
        taken["workflow"] = unknown.pop("prompt")
        warnings.append("The graph under 'prompt' was read as the workflow.")
    elif nodes:
        taken["workflow"] = {name: unknown.pop(name) for name in nodes}
        warnings.append("The nodes among the arguments were read as the workflow.")
    elif is_ui_format(inner) or _nodes_in(inner):
        taken["workflow"] = dict(inner)
        for name in [where.partition(".")[0]] if where else list(unknown):
            del unknown[name]
        given = f"The graph under {where!r}" if where else "The file in the place of the arguments"
        warnings.append(f"{given} was read as the workflow.")


def _take_loose_inputs(unknown: dict[str, Any], taken: dict[str, Any], warnings: list[str]) -> None:
    """Inputs of a workflow that is given by its name, where the arguments should stand. A graph has them
    itself: beside one, they may be anything."""
    named = taken.get("workflow")
    inputs = taken.get("inputs", {})
    if not isinstance(named, str) or named.lstrip().startswith(JSON) or not isinstance(inputs, Mapping):
        return
    loose = {name: value for name, value in unknown.items() if name in USUAL_NAMES and _is_scalar(value)}
    if loose and not loose.keys() & inputs.keys():
        taken["inputs"] = {**inputs, **loose}
        warnings.append(f"Read as inputs of the workflow: {', '.join(loose)}.")
        for name in loose:
            del unknown[name]


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float) and value != ""


def _take_only_argument(
    operation: str,
    params: type[Params],
    unknown: dict[str, Any],
    taken: dict[str, Any],
    warnings: list[str],
) -> None:
    """The one argument that is needed, under another name: `id`, `job_id`."""
    needed = {each.name: each for each in _arguments(params).values() if each.required}
    if len(needed) != 1 or len(unknown) != 1:
        return
    ((name, value),), (argument,) = unknown.items(), needed.values()
    if taken.keys() & {argument.name, *argument.names} or not isinstance(value, str) or not value:
        return
    taken[argument.name] = _repaired(operation, params, argument, name, value)
    del unknown[name]
    warnings.append(f"{shown(name)} was read as {argument.name}.")


def _nodes_in(graph: Mapping[str, Any]) -> list[str]:
    return [name for name, value in graph.items() if isinstance(value, Mapping) and "class_type" in value]


def _unknown(operation: str, params: type[Params], unknown: Mapping[str, object]) -> list[str]:
    names = [name for name, value in unknown.items() if value not in (None, "")]
    if not names:
        return []
    meant = {name: _meant(name, params) for name in names[:MAX_UNKNOWN]}
    listed = ", ".join(
        f"{name[:_SHOWN]!r}" + (f" (nearest: {near[0]})" if near else "") for name, near in meant.items()
    )
    more = f" and {len(names) - MAX_UNKNOWN} more" if len(names) > MAX_UNKNOWN else ""
    loose = next((name for name, near in meant.items() if not near), None)
    hint = (
        f' Set inputs of the workflow in inputs: {{"{loose[:_SHOWN]}": …}}.'
        if loose is not None and _takes_inputs(params)
        else ""
    )
    return [f"{operation} has no argument {listed}{more}: not used.{hint}"]


def _meant(name: str, params: type[Params]) -> Sequence[str]:
    if "variations" in params.model_fields and name.lower() in _COUNTS:
        return ["variations"]
    return nearest(name[:_SHOWN], params.model_fields.keys(), 1)


_COUNTS = frozenset({"count", "n", "num", "number", "num_images", "images", "samples", "repeat"})
"""How others call the number of pictures."""


def _takes_inputs(params: type[Params]) -> bool:
    return "inputs" in params.model_fields
