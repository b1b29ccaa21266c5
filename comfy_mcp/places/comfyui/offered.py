"""The workflows that a ComfyUI offers: its templates (/templates/index*.json), those of custom nodes
(/workflow_templates), and the user's own (/userdata).

Facts of comfyui-workflow-templates 0.1.123: `index.json` is a list of categories with `templates`;
`index.mcp.json`, which not every engine serves, says tasks, inputs and outputs in words. Read tolerantly.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from comfy_mcp.domain.workflow_entries import MAKES, WorkflowEntry, WorkflowOrigin
from comfy_mcp.places.json_text import members

MAX_ENTRIES = 5_000
"""Most templates, and most saved workflows, that are listed."""
_LONGEST = 500
_TIMES = "\u00d7"


def templates_of(index: object, described: object = None) -> tuple[WorkflowEntry, ...]:
    """`index` is the answer for index.json, `described` the one for index.mcp.json."""
    more = {str(each.get("name")): each for each in _templates(described)}
    found: dict[str, WorkflowEntry] = {}
    for each in _templates(index):
        if isinstance(name := each.get("name"), str) and name and len(found) < MAX_ENTRIES:
            found.setdefault(name, _template(name, each, more.get(name, {})))
    return tuple(found.values())


def pack_templates_of(answer: object) -> tuple[WorkflowEntry, ...]:
    """Of GET /workflow_templates: {pack: [name, …]}. The name of an entry is "pack/name"."""
    found: dict[str, WorkflowEntry] = {}
    for pack, names in answer.items() if isinstance(answer, Mapping) else ():
        for name in names if isinstance(names, list) and _is_plain(pack) else ():
            if isinstance(name, str) and _is_plain(name) and len(found) < MAX_ENTRIES:
                found[f"{pack}/{name}"] = WorkflowEntry(
                    name=f"{pack}/{name}",
                    origin=WorkflowOrigin.TEMPLATE,
                    title=name.replace("_", " ").replace("-", " "),
                    about=f"Example of the custom nodes {pack}",
                    words=tuple(pack.replace("_", " ").replace("-", " ").split()),
                )
    return tuple(found.values())


def _is_plain(name: str) -> bool:
    """Whether it is the name of one folder or file, and no way to another."""
    return bool(name) and not name.startswith(".") and not {"/", "\\"} & {*name}


def saved_of(answer: object) -> tuple[WorkflowEntry, ...]:
    """Of GET /userdata?dir=workflows&recurse=true: paths, or objects that have one."""
    found = []
    for each in answer[:MAX_ENTRIES] if isinstance(answer, list) else ():
        path = each.get("path") if isinstance(each, Mapping) else each
        if isinstance(path, str) and path.lower().endswith(".json") and not path.startswith("."):
            name = path.replace("\\", "/")[: -len(".json")]
            title = name.rpartition("/")[2].replace("_", " ").replace("-", " ").removesuffix(".app")
            found.append(
                WorkflowEntry(
                    name=name,
                    origin=WorkflowOrigin.SAVED,
                    title=title,
                    about="Saved in ComfyUI",
                    words=tuple(name.split("/")[:-1]),
                )
            )
    return tuple(found)


def _templates(index: object) -> Iterator[Mapping[str, Any]]:
    for category in index if isinstance(index, list) else ():
        templates = category.get("templates") if isinstance(category, Mapping) else None
        for each in templates if isinstance(templates, list) else ():
            if isinstance(each, Mapping):
                yield each


def _template(name: str, each: Mapping[str, Any], more: Mapping[str, Any]) -> WorkflowEntry:
    tags = _texts(each.get("tags"))
    io, said = members(each.get("io")), members(more.get("io"))
    outputs = _texts(said.get("outputs")) or _media(io.get("outputs"))
    media = {text.partition(":")[0].partition(_TIMES)[0] for text in outputs} or {
        _text(each.get("mediaType"))
    }
    usage, size = each.get("usage"), each.get("size")
    return WorkflowEntry(
        name=name,
        origin=WorkflowOrigin.TEMPLATE,
        title=_text(each.get("title")) or name,
        about=_text(each.get("description")),
        words=(*tags, *_texts(each.get("models")), _text(more.get("task")), _text(more.get("model"))),
        makes=frozenset(media) & {*MAKES},
        inputs=_texts(said.get("inputs")) or _media(io.get("inputs")),
        outputs=outputs,
        paid="API" in tags or each.get("openSource") is False,
        usage=usage if isinstance(usage, int) else 0,
        model_bytes=size if isinstance(size, int) else 0,
        version=_text(each.get("minComfyUIVersion")) or None,
    )


def _media(items: object) -> tuple[str, ...]:
    each_one = (members(each).get("mediaType") for each in (items if isinstance(items, list) else ()))
    return tuple(each for each in each_one if isinstance(each, str))


def _texts(value: object) -> tuple[str, ...]:
    items: Sequence[object] = value if isinstance(value, list) else ()
    return tuple(each[:_LONGEST] for each in items[:50] if isinstance(each, str))


def _text(value: object) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""
