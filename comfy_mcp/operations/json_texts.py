"""A graph as a caller writes it, and other JSON that comes as text: encoded several times, in a Markdown
fence, or in what other tools put around a graph."""

from collections.abc import Callable, Mapping

from comfy_mcp.domain import large_json
from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.domain.graph import MAX_WRAPPERS, OBJECT, WRAPPERS, wrapped_graph, wrappers_of
from comfy_mcp.operations.beside import beside

_MOST_LAYERS = 3

_FENCE = "```"

JSON = ("{", '"', _FENCE)
"""How a text begins that may be a graph. Others are prompts, names and paths."""


async def graph_in(value: object, parse: Callable[[str], object]) -> tuple[object, tuple[str, ...]]:
    """The graph that a caller means by `value`: JSON text, twice encoded or in a Markdown fence, and the
    wrappers that other tools put around a graph; and warnings. Raises what `parse` raises for other text."""
    if isinstance(value, OBJECT) and value.keys().isdisjoint(WRAPPERS):
        return value, ()
    large = large_json.is_large(value) or _is_large_text(value)
    return await beside(large, _graph_in, value, parse)


def _is_large_text(value: object, depth: int = MAX_WRAPPERS) -> bool:
    """Whether it is, or has in the place of a graph, JSON text that takes long to parse. `value` has few
    values, whatever their lengths."""
    if isinstance(value, OBJECT) and depth:
        return any(_is_large_text(value[key], depth - 1) for key in wrappers_of(value))
    return isinstance(value, str) and len(value) > large_json.LARGE_BYTES


def _graph_in(value: object, parse: Callable[[str], object]) -> tuple[object, tuple[str, ...]]:
    warnings: list[str] = []
    value = _read(value, parse, warnings)
    if isinstance(value, OBJECT):
        inner, where = wrapped_graph(value)
        if where not in ("", "prompt"):  # the body of ComfyUI's POST /prompt may have extra_data as well
            file = value.get("workflow")
            kept = where == "output" and isinstance(file, Mapping)  # the editor's file: it goes into pictures
            value = {"prompt": inner, "extra_data": {"extra_pnginfo": {"workflow": file}}} if kept else inner
            warnings.append(
                f"The graph was read from {where!r} of the workflow; its other members are not run."
            )
    return value, tuple(dict.fromkeys(warnings))


def _read(
    value: object, parse: Callable[[str], object], warnings: list[str], depth: int = MAX_WRAPPERS
) -> object:
    """`value` without texts in the place of a graph: itself, or in what is put around one."""
    for layer in range(_MOST_LAYERS if isinstance(value, str) else 0):
        value = _decoded(value, parse, warnings, again=layer > 0)
    if not isinstance(value, OBJECT) or not depth:
        return value
    inner = {key: value[key] for key in wrappers_of(value)}
    read = {
        key: _read(each, parse, warnings, depth - 1)
        for key, each in inner.items()
        if not isinstance(each, str) or each.lstrip().startswith(JSON)
    }
    return value if all(read[key] is inner[key] for key in read) else {**value, **read}


def _decoded(value: object, parse: Callable[[str], object], warnings: list[str], *, again: bool) -> object:
    if not isinstance(value, str):
        return value
    if (fenced := _in_fence(value)) is not None:
        value = fenced
        warnings.append("The Markdown fence around the workflow was removed.")
    elif (fenced := _in_words(value)) is not None:
        value = fenced
        warnings.append("Only what is in the Markdown fence was read.")
    if again:
        warnings.append("The workflow was JSON text within JSON text; it was decoded again.")
    return parse(value)


async def as_json(graph: object, *, large: bool | None = None) -> tuple[object, bytes, tuple[str, ...]]:
    """`graph` and its JSON text; and a warning where a text of it ended in the middle of a character, which
    nothing can store or send. `large`: whether it holds much, if that is known. Raises InvalidInput."""
    large = large_json.is_large(graph) if large is None else large
    return await beside(large, _as_json, graph, large=large)


def _as_json(graph: object, *, large: bool) -> tuple[object, bytes, tuple[str, ...]]:
    try:
        text = large_json.strict_text(graph, large=large)
    except RecursionError:
        raise InvalidInput(
            "The workflow is nested too deeply.",
            next_step="Send a workflow as ComfyUI saves it.",
            code=ErrorCode.GRAPH_INVALID,
        ) from None
    except ValueError:
        raise InvalidInput(
            "The workflow has a number that is infinite or none at all, which JSON can't hold.",
            next_step="Write a smaller one, such as 1e9.",
            code=ErrorCode.GRAPH_INVALID,
        ) from None
    try:
        return graph, text.encode(), ()
    except UnicodeEncodeError:
        text = large_json.with_whole_characters(text)
        return large_json.loads(text), text.encode(), (HALF_CHARACTER,)


HALF_CHARACTER = "Half a character (an unpaired surrogate) in the workflow was replaced with U+FFFD."


def _in_fence(text: str) -> str | None:
    """What stands between the lines ``` of Markdown, if that is all there is. Linear in the text."""
    text = text.strip()
    first, newline, rest = text.partition("\n")
    if not (newline and first.startswith(_FENCE) and rest.endswith(_FENCE)):
        return None
    language = first.removeprefix(_FENCE).strip()
    return rest.removesuffix(_FENCE).strip() if "`" not in language else None


def _in_words(text: str) -> str | None:
    """What is in the only Markdown fence of a text that says more. Linear in the text."""
    before, *rest = text.split(_FENCE, 3)
    if len(rest) != 2 or before.lstrip().startswith(("{", '"')):
        return None
    return _in_fence(f"{_FENCE}{rest[0]}{_FENCE}")


def json_in(text: str) -> object:
    """The list or the object that a text is: JSON, encoded several times or in a Markdown fence. Any other
    text as it is."""
    value: object = text
    for _ in range(_MOST_LAYERS):
        if isinstance(value, str) and value.lstrip().startswith(("[", *JSON)):
            inside = _in_fence(value)
            try:
                value = large_json.loads(value if inside is None else inside)
            except (ValueError, RecursionError):
                return text
    return value if isinstance(value, list | dict) else text
