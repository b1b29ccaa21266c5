"""Inputs of nodes that are files, and what a caller may write there.

A workflow that is kept names a file by its place in FOLDER: `bridge-files/<sha-256>.png` is a copy that the
bridge keeps, named by its content; `bridge-files/output-<id>` is an output of an earlier job, and
`bridge-files/job-<id>-<n>` one that a job is going to make which this one waits for. A place puts what
stands in FOLDER where the engine reads it, just before the workflow is sent.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote, urlsplit

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.graph import Graph, Node
from comfy_mcp.domain.ids import JobId, NodeId, OutputId
from comfy_mcp.domain.inputs import InputSpec
from comfy_mcp.domain.media_types import media_type_of
from comfy_mcp.domain.object_info import ObjectInfo

FOLDER = "bridge-files"
"""Below the engine's input folder; a name that nothing else has."""

_IN_FOLDER = f"{FOLDER}/"
_OUTPUT_PREFIX = f"{FOLDER}/output-"
_MADE = re.compile(rf"{FOLDER}/job-([0-9a-zA-Z-]{{1,64}})-([0-9]{{1,4}})")
_INDEX = re.compile(r"#([0-9]{1,4})$")
_KEPT = re.compile(rf"{FOLDER}/([0-9a-f]{{64}}(?:\.[a-z0-9]{{1,8}})?)")
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_OUTPUT = re.compile(
    rf"(?:{re.escape(_OUTPUT_PREFIX)}|outputs?:(?://)?|comfy://outputs?/|(?:https?://[^/?#\s]+)?/v1/comfyui/outputs?/)"
    r"([0-9a-fA-F-]{4,36})(?:[/?#].*)?"
)
_BARE_ID = re.compile(_UUID)
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):(//)?")
_PLACES = {f" [{place}]": place for place in ("input", "output", "temp")}
_QUOTES = "\"'`<>"

_CORE = {
    ("LoadImage", "image"): frozenset({"image"}),
    ("LoadImageMask", "image"): frozenset({"image"}),
    ("LoadAudio", "audio"): frozenset({"audio", "video"}),
    ("LoadVideo", "file"): frozenset({"video", "image"}),
}
"""File inputs of core classes with the media that they read: for when no engine says what it has."""

SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/bmp": ".bmp",
    "image/tiff": ".tiff",
    "image/avif": ".avif",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "video/quicktime": ".mov",
    "audio/wav": ".wav",
    "audio/flac": ".flac",
    "audio/ogg": ".ogg",
    "audio/mpeg": ".mp3",
    "audio/mp4": ".m4a",
}

_ANY: frozenset[str] = frozenset()
_UPLOADS = {
    "image_upload": frozenset({"image"}),
    "animated_image_upload": frozenset({"image"}),
    "audio_upload": frozenset({"audio", "video"}),
    "video_upload": frozenset({"video", "image"}),
}


_MARK = "$output"
_ID = re.compile(r"[0-9a-fA-F-]{4,36}")
MAX_INDEX = 10_000
"""Outputs of one job that can be named, as many as are recorded of one attempt."""


class Source(StrEnum):
    """Where a file comes from. NAME: only the engine can tell, it may be a relative path as well."""

    KEPT = "kept"
    OUTPUT = "output"
    MADE = "made"
    URL = "url"
    DATA = "data"
    PATH = "path"
    NAME = "name"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a caller wrote, understood. `text` is the path, URL, id or name; for NAME without ` [output]`,
    which is in `folder`. `index`: which output of a job, from 0."""

    source: Source
    text: str
    folder: str = "input"
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInput:
    """One input with the text that stands in it. `media` are the main types that it reads; none: any."""

    node: NodeId
    class_type: str
    name: str
    value: str
    media: frozenset[str] = _ANY
    listed: bool = False
    options: tuple[object, ...] = ()

    @property
    def where(self) -> str:
        return f"Node {self.node} ({self.class_type}), input {self.name!r}"


def file_inputs(graph: Graph, info: ObjectInfo | None) -> Iterator[FileInput]:
    """The inputs of the graph that name files. Linear in the graph.

    An input reads files if its class says so, or if it is a free choice of a custom class and its text can be
    nothing else. What names FOLDER is one everywhere.
    """
    for node in graph.nodes.values():
        texts = {name: value for name, value in node.inputs.items() if value.__class__ is str}
        if not texts:
            continue
        specs = _specs(node, info)
        for name, value in texts.items():
            spec = specs.get(name)
            media = _media(node, name, value, spec, info)
            if media is not None:
                yield FileInput(
                    node=node.id,
                    class_type=node.class_type,
                    name=name,
                    value=value,
                    media=media,
                    listed=spec is not None and spec.lists(value),
                    options=() if spec is None else spec.options or (),
                )


def reference(value: str) -> Reference:
    """What the text means, in any of the spellings that callers try."""
    text = value.strip()
    text = text[1:-1].strip() if len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES else text
    if kept := _KEPT.fullmatch(text):
        return Reference(source=Source.KEPT, text=kept[1])
    if made := _MADE.fullmatch(text):
        return Reference(source=Source.MADE, text=made[1], index=int(made[2]))
    if output := _OUTPUT.fullmatch(text):
        index = _INDEX.search(text)
        return Reference(
            source=Source.OUTPUT, text=output[1].lower(), index=int(index[1]) if index is not None else 0
        )
    if _BARE_ID.fullmatch(text):
        return Reference(source=Source.OUTPUT, text=text.lower())
    scheme = _SCHEME.match(text)
    match scheme[1].lower() if scheme else "":
        case "output" | "outputs" if scheme is not None:  # no id follows: not found, by its name
            return Reference(source=Source.OUTPUT, text=text[scheme.end() :])
        case "http" | "https":
            return Reference(source=Source.URL, text=text)
        case "data":
            return Reference(source=Source.DATA, text=text)
        case "file":
            return Reference(source=Source.PATH, text=path_of_url(text))
        case "":
            return _name_or_path(text)
        case _:
            return Reference(source=Source.UNKNOWN if scheme and scheme[2] else Source.NAME, text=text)


def is_listable(value: str) -> bool:
    """Whether an engine that has the file lists it by this text: it does not look into folders."""
    named = reference(value)
    return named.source is Source.NAME and named.folder == "input" and not set("/\\") & set(named.text)


def path_of_url(url: str) -> str:
    """The path in `file:///a/b`, `file://a/b` as people write it for a relative path, `file:a/b`."""
    rest = unquote(url[len("file:") :])
    rest = rest.removeprefix("//").removeprefix("localhost/") if rest.startswith("//") else rest
    return rest[1:] if _is_drive(rest[1:]) else rest


def _is_drive(path: str) -> bool:
    return len(path) > 2 and path[0].isalpha() and path[1] == ":" and path[2] in "/\\"


def _name_or_path(text: str) -> Reference:
    if text.startswith(("/", "./", "../", ".\\", "..\\", "~", "\\\\")) or _is_drive(text):
        return Reference(source=Source.PATH, text=text)
    for ending, folder in _PLACES.items():
        if text.endswith(ending):
            return Reference(source=Source.NAME, text=text.removesuffix(ending), folder=folder)
    return Reference(source=Source.NAME, text=text)


def kept_name(name: str) -> str:
    """What a graph says for a copy that the bridge keeps."""
    return f"{FOLDER}/{name}"


def output_name(output_id: OutputId) -> str:
    """What a graph says for an output of an earlier job."""
    return f"{_OUTPUT_PREFIX}{output_id}"


def made_name(job_id: JobId, index: int) -> str:
    """What a graph says for an output that a job is going to make."""
    return f"{FOLDER}/job-{job_id}-{index}"


def with_outputs_named(value: object, where: str) -> object:
    """The text in the place of `{"$output": ID, "index": 0}`; any other value as it is. Raises InvalidInput.

    `where` is said in the error.
    """
    if not isinstance(value, Mapping) or _MARK not in value:
        return value
    given, index = value[_MARK], value.get("index", 0)
    whole = isinstance(index, int) and not isinstance(index, bool) and 0 <= index < MAX_INDEX
    if not isinstance(given, str) or not _ID.fullmatch(given.strip()) or not whole:
        raise InvalidInput(
            f"{where}: {_MARK} names an output or a workflow by its id, and index is 0 to {MAX_INDEX - 1}.",
            next_step='Write {"$output": "ID", "index": 0}, with an id from submit_workflow or list_outputs.',
        )
    return f"{_OUTPUT_PREFIX}{given.strip()}#{index}"


def graph_with_outputs_named(graph: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same for the inputs of an API-format graph; the same object if it has none. Linear in the graph."""
    values = {
        (NodeId(node_id), name): text
        for node_id, node in graph.items()
        if isinstance(node, Mapping)
        for name, value in _inputs(node).items()
        if isinstance(value, dict)
        and (text := with_outputs_named(value, f"Node {node_id}, input {name!r}")) is not value
    }
    return with_inputs(graph, values) if values else graph


def names_outputs(text: bytes) -> bool:
    """Whether a graph may have such an object, by its JSON."""
    return f'"{_MARK}"'.encode() in text


def kept_in(text: str) -> frozenset[str]:
    """The names of the copies that stand in a text, such as the JSON of a graph. Linear in the text."""
    return frozenset(_KEPT.findall(text))


def placed(graph: Mapping[str, Any]) -> frozenset[str]:
    """The texts in the inputs of an API-format graph that stand in FOLDER. Linear in the graph."""
    return frozenset(
        value
        for node in graph.values()
        for value in _inputs(node).values()
        if isinstance(value, str) and value.startswith(f"{FOLDER}/")
    )


def with_texts(graph: Mapping[str, Any], texts: Mapping[str, object]) -> dict[str, Any]:
    """The graph with each input whose text is one of `texts` replaced."""
    values = {
        (NodeId(node_id), name): texts[value]
        for node_id, node in graph.items()
        for name, value in _inputs(node).items()
        if isinstance(value, str) and value in texts
    }
    return with_inputs(graph, values)


def with_inputs(graph: Mapping[str, Any], values: Mapping[tuple[NodeId, str], object]) -> dict[str, Any]:
    """The graph with the values of some inputs, by node and name."""
    changed: dict[str, Any] = {}
    for (node_id, name), value in values.items():
        if node_id not in changed:
            changed[node_id] = {**graph[node_id], "inputs": dict(graph[node_id]["inputs"])}
        changed[node_id]["inputs"][name] = value
    return {**graph, **changed}


def _inputs(node: Mapping[str, Any]) -> Mapping[str, Any]:
    inputs = node.get("inputs")
    return inputs if isinstance(inputs, Mapping) else {}


def suffix_of(name: str) -> str:
    """The suffix of a file name, or of the path of a URL, where it is a plain one: `.png`; else nothing."""
    name = urlsplit(name).path if "://" in name else name
    dot = name.rfind(".")
    found = name[dot:].lower() if dot >= 0 else ""
    return found if re.fullmatch(r"\.[a-z0-9]{1,8}", found) else ""


def suffix_for(name: str, head: bytes) -> str:
    """How the name of a file with these first bytes ends: as it is called, unless they say otherwise."""
    by_name = suffix_of(name)
    kind = media_type_of(f"x{by_name}", head)
    if by_name and media_type_of(f"x{by_name}") == kind:
        return by_name
    return SUFFIXES.get(kind, by_name)


def _specs(node: Node, info: ObjectInfo | None) -> Mapping[str, InputSpec]:
    owner = None if info is None else info.classes.get(node.class_type)
    return {} if owner is None else owner.inputs_of(node.inputs)


def _media(
    node: Node, name: str, value: str, spec: InputSpec | None, info: ObjectInfo | None
) -> frozenset[str] | None:
    """The main media types that the input reads; None: it is no file."""
    if spec is not None and spec.names_file:
        return next((media for key, media in _UPLOADS.items() if spec.extra.get(key)), _ANY)
    if info is None and (node.class_type, name) in _CORE:
        return _CORE[node.class_type, name]
    if value.startswith(_IN_FOLDER):
        return _ANY
    if spec is None or spec.type != "COMBO" or spec.strict_options or spec.dynamic or spec.lists(value):
        return None
    return None if reference(value).source in {Source.NAME, Source.UNKNOWN} else _ANY
