"""The workflow of a submit: inline, by name, by path or as bytes, with the caller's inputs set."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePath
from typing import Any

from comfy_mcp.domain import large_json
from comfy_mcp.domain.batches import Seed, seeds_of, with_new_seeds
from comfy_mcp.domain.errors import ErrorCode, InvalidInput, LimitExceeded, NotFound
from comfy_mcp.domain.file_inputs import (
    FileInput,
    graph_with_outputs_named,
    names_outputs,
    path_of_url,
    with_outputs_named,
)
from comfy_mcp.domain.graph import Graph, parse_graph, unwrapped
from comfy_mcp.domain.job_names import prompt_words, purpose
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.parameter_values import with_inputs
from comfy_mcp.domain.parameters import Controls, Parameter, parameters_of
from comfy_mcp.domain.shown import shown
from comfy_mcp.driving.checked import Checked
from comfy_mcp.operations.beside import beside
from comfy_mcp.operations.best_engine import best_engine, lists_for
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.file_inputs import is_missing, spellings
from comfy_mcp.operations.json_texts import as_json, graph_in
from comfy_mcp.operations.named import JOB, Named, named_workflow
from comfy_mcp.operations.shapes import SubmitParams, one_line

MAX_NAME = 300
"""Longest text that may be the name or the path of a workflow."""

_RANDOM = frozenset({"random", "randomize", -1})
_URLS = ("http://", "https://")
_PATHS = ("/", "./", "../", "~", "file:", *_URLS)
_SUFFIXES = (".json", ".png", ".webp", ".mp4", ".webm", ".flac", ".mp3", ".ogg", ".opus", ".mov", ".gif")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """`text` is `raw` as JSON. `repairs` say how it was read. `name`: what people call it, and `title` if
    its prompt has no words. Two submits are the same where `same` is. `vary` sets more inputs, of the same
    workflow in API format, where some are set already. `seeds` are those that its variations count up."""

    raw: object
    text: bytes
    repairs: tuple[str, ...]
    name: str | None
    same: object
    title: str | None = None
    vary: "Vary | None" = None
    seeds: tuple[Seed, ...] = ()


Vary = Callable[[Graph, Mapping[str, Any]], tuple[dict[str, Any], tuple[str, ...]]]
"""See domain/parameter_values.py:with_inputs."""


async def given_workflow(
    context: OperationContext, params: SubmitParams, values: Mapping[str, Any] | None = None
) -> Given:
    """With the inputs of the submit, and with `values`, which win. With variations, other seeds are new.

    Raises InvalidInput, NotFound for a name that nothing has, and what reading the workflow raises."""
    services = context.services
    inputs, values = _named(params.inputs), _named(values)
    _require_one(params.workflow, params.path, context.content)
    asked = _named_in(params.workflow)
    named, name, path = None, params.name, params.path
    if asked is not None:
        named, path = await _found(context, asked, inputs | values)
    if named is not None:
        raw, name = named.raw, name or (None if named.is_starter else named.title)
    elif path is not None:
        raw, name = await _read(context, path), name or PurePath(path).stem
    elif context.content is not None:
        raw = await services.workflow_files.receive(context.content, services.settings.max_upload_bytes)
    else:
        raw = params.workflow
    limit = services.settings.max_graph_bytes
    raw, repairs = await graph_in(raw, services.workflow_files.parse)
    context.found.extend(repairs)
    if params.extra_data is not None and isinstance(raw, Mapping):
        _check_size(len((await as_json(params.extra_data))[1]), limit)
        raw = {"prompt": unwrapped(raw), "extra_data": params.extra_data}
    large = large_json.is_large(raw)
    raw, text, more = await as_json(raw, large=large)
    if names_outputs(text):
        raw, text, _ = await as_json(await beside(large, _with_outputs_named, raw), large=large)
    context.found.extend(more)
    if params.workflow is not None:
        _check_size(len(text), limit if params.extra_data is None else 2 * limit)
    given = Given(
        raw=raw,
        text=text,
        repairs=repairs + more,
        name=name,
        same=asked if named is not None else raw,
        title=None if named is None else named.title,
    )
    new_seeds = params.variations is not None
    if named is None and not inputs and not values and not new_seeds:
        return given
    return await _with_inputs(context, given, named, inputs, values, new_seeds=new_seeds)


async def name_of(given: Given, checked: Checked) -> str | None:
    """What people call the job: as given, else by its prompt, its title or what it does."""
    return one_line(given.name) or await beside(checked.large, _name_by, checked.graph, given.title)


def _name_by(graph: Graph, title: str | None) -> str | None:
    return one_line(prompt_words(graph)) or one_line(title) or one_line(purpose(graph))


def _require_one(*given: object) -> None:
    count = len(given) - given.count(None)
    if not count:
        raise InvalidInput(
            "No workflow was given.",
            next_step='Call find_workflow(query="…") for names, then submit_workflow(workflow="NAME"); or '
            "pass a graph as workflow: {nodeId: {class_type, inputs}}.",
        )
    if count > 1:
        raise InvalidInput(
            "Give either workflow or path, not both.",
            next_step="Pass the graph as an object, or the path of its file.",
        )


def _named(inputs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Outputs of other workflows as texts."""
    return {name: with_outputs_named(value, f"Input {shown(name)}") for name, value in (inputs or {}).items()}


def _with_outputs_named(raw: object) -> object:
    """The same in a graph in API format, which may be the body of ComfyUI's POST /prompt."""
    if not isinstance(raw, Mapping):
        return raw
    graph = unwrapped(raw)
    named = graph_with_outputs_named(graph)
    return raw if named is graph else {**raw, "prompt": named} if graph is not raw else named


async def _found(
    context: OperationContext, asked: str, inputs: Mapping[str, object] | None
) -> tuple[Named | None, str | None]:
    """The workflow with this name, else the path that it is."""
    if asked.lower().startswith(_PATHS):
        return None, path_of_url(asked) if asked[:5].lower() == "file:" else asked
    try:
        info = None if asked.startswith(JOB) else (await context.services.engines.node_lists()).all
        return await named_workflow(context, asked, info, inputs), None
    except NotFound:
        if not asked.lower().endswith(_SUFFIXES) or not context.caller.may_read_files:
            raise
    return None, asked


async def _read(context: OperationContext, path: str) -> Any:
    if path.lower().startswith(_URLS):
        raise InvalidInput(
            f"A workflow is not fetched from a URL: {shown(path)}.",
            next_step="Download the file, and pass the graph in it as workflow.",
            code=ErrorCode.PATH_UNREADABLE,
        )
    if not context.caller.may_read_files:
        raise InvalidInput(
            "This surface can't read workflow files by path.",
            next_step="Send the graph itself as workflow.",
            code=ErrorCode.PATH_NOT_ALLOWED,
        )
    return await context.services.workflow_files.read(path)


async def _with_inputs(
    context: OperationContext,
    given: Given,
    named: Named | None,
    inputs: Mapping[str, object],
    more: Mapping[str, object],
    *,
    new_seeds: bool,
) -> Given:
    """The graph in API format with the inputs set: the file it was would show other values in the editor.

    A starter gets a seed of its own each time, as "random" does for any workflow, and so does each seed of a
    workflow of which variations are made: a seed that the caller sets is the first of theirs.
    """
    services = context.services
    known = await lists_for(services, given.raw)
    _, judged = await best_engine(
        services.checker, given.raw, given.text, known, client=context.caller.client
    )
    context.found.extend(judged.warnings)
    info = known.all
    graph, controls = judged.graph, judged.controls
    large = services.checker.is_large(given.text)
    parameters = await beside(large, parameters_of, graph, info, file=given.raw, controls=controls)
    values = {name: _drawn(name, value) for name, value in {**inputs, **more}.items()}
    new_seeds = new_seeds or (named is not None and named.is_starter)
    seeds = await beside(large, seeds_of, graph, parameters) if new_seeds else ()
    if seeds:  # apart from the rest: an input of the caller's may be the same under another name
        seeded = await beside(large, with_new_seeds, graph.raw, seeds, secrets.randbits(31))
        graph = await beside(large, parse_graph, seeded)
    same = [given.same, dict(inputs)] if inputs else given.same
    if not values and not seeds:
        await _require_files(context, graph, parameters, given.name or given.title)
        return replace(given, same=same)
    changed, notes = await beside(large, with_inputs, graph, parameters, values, info=info, controls=controls)
    context.found.extend(notes)
    extra_data = given.raw.get("extra_data") if isinstance(given.raw, Mapping) else None
    raw, text, halves = await as_json(_with_extra_data(changed, extra_data))
    _check_size(len(text), 2 * services.settings.max_graph_bytes)
    await _require_files(context, changed, parameters, given.name or given.title)
    return replace(
        given,
        raw=raw,
        text=text,
        repairs=given.repairs + judged.warnings + notes + halves,
        same=same,
        vary=partial(_varied, parameters, info, controls),
        seeds=seeds,
    )


def _drawn(name: str, value: object) -> object:
    """A seed where the value asks for any."""
    is_random = "seed" in name and isinstance(value, str | int) and value in _RANDOM
    return secrets.randbits(32) if is_random else value


def _varied(
    parameters: Sequence[Parameter],
    info: ObjectInfo | None,
    controls: Controls | None,
    graph: Graph,
    values: Mapping[str, Any],
) -> tuple[dict[str, Any], tuple[str, ...]]:
    return with_inputs(graph, parameters, _named(values), info=info, controls=controls)


def _with_extra_data(graph: dict[str, Any], extra_data: object) -> dict[str, Any]:
    """Without the editor's file, which has the old values."""
    if not isinstance(extra_data, Mapping):
        return graph
    pnginfo = extra_data.get("extra_pnginfo")
    kept = {name: value for name, value in extra_data.items() if name != "extra_pnginfo"}
    if isinstance(pnginfo, Mapping):
        kept["extra_pnginfo"] = {name: value for name, value in pnginfo.items() if name != "workflow"}
    return {"prompt": graph, "extra_data": kept}


async def _require_files(
    context: OperationContext,
    graph: Graph | Mapping[str, Any],
    parameters: Sequence[Parameter],
    name: str | None,
) -> None:
    """Raises InvalidInput for a file that the workflow takes and nobody gave: the engine would find none."""
    raw = graph.raw if isinstance(graph, Graph) else graph
    for each in parameters:
        node, given = each.targets[0]
        if not each.needs_value or raw[node]["inputs"][given] != each.value:
            continue
        found = FileInput(node=node, class_type=raw[node]["class_type"], name=given, value=str(each.value))
        if not each.value or await is_missing(context, found):
            raise InvalidInput(
                f"{name or 'The workflow'} needs {each.name}, a file ({each.kind.value}).",
                next_step=f'Give it: inputs={{"{each.name}": "…"}}, as {spellings(context)}.',
            )


def _named_in(workflow: object) -> str | None:
    """The name or the path that a text is; None for a graph, or JSON text."""
    if not isinstance(workflow, str):
        return None
    text = workflow.strip().removeprefix("\ufeff")
    graph = not text or text[0] in '{["`' or "\n" in text or len(text) > MAX_NAME
    return None if graph else text


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise LimitExceeded(
            f"The workflow has {size} bytes; the limit is {limit}.",
            next_step="Upload large inputs as files, or raise COMFY_BRIDGE_MAX_GRAPH_BYTES.",
            code=ErrorCode.TOO_LARGE,
        )
