"""What the editor was seen to do, recorded by `make editor` (tests/editor/record.py), and the comparison with
it.

tests/data/editor/ holds, all compressed, for each editor and the ComfyUI whose classes it was given
(EDITOR is "1.58.1", "1.58.1-0.3.75" or "1.32.9"):
    object_info_ENGINE.json.gz   the whole answer of that ComfyUI's GET /object_info
    exports_EDITOR.json.gz       {template: API graph} for the templates of comfyui-workflow-templates-json
                                 (a pinned development dependency) whose classes that ComfyUI has
    changed_EDITOR.json.xz       {template: {saved, output}}: every control of a top node changed, and saved
    edited_1.58.1.json.gz        {template: {saved, output}}: some controls changed in the editor, and saved
    classes_1.58.1.json.gz       {class: {saved, sent}}: names in a new node's saved values, and sent
    texts_1.58.1.json.gz         {name: [first, last]}: API graphs of the texts of tests/editor/texts.py
    made_EDITOR.json.gz          {case: {file, output}}: the small workflows of cases.py and odd_files.py
    packs_1.58.1.json.gz         {classes, files: {class: {file, output}}}: new and changed nodes of eleven
                                 packs, with the packs' scripts, by hand (tests/editor/packs.py)
    reopened_EDITOR.json.gz      {template: API graph}: what today's editor sends of the files that the older
                                 one saved after its changes (changed_1.32.9)
"""

import gzip
import importlib.util
import json
import lzma
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from comfy_mcp.domain.api_format import api_format
from comfy_mcp.domain.errors import InvalidGraph
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.inputs import active
from comfy_mcp.domain.object_info import ObjectInfo

DATA = Path(__file__).parents[1] / "data" / "editor"
VERSION, OLDER = "1.58.1", "1.32.9"
ON_OLDER = f"{VERSION}-0.3.75"
ENGINE = {VERSION: "0.33.0", ON_OLDER: "0.3.75", OLDER: "0.3.75"}
"""The editors, and the ComfyUI whose classes each was given."""


def load(name: str) -> Any:
    packing = lzma if name.endswith(".xz") else gzip
    return json.loads(packing.decompress((DATA / name).read_bytes()))


def store(name: str, value: Any) -> None:
    text = json.dumps(value, separators=(",", ":")).encode()  # the order of names in a file means something
    packed = lzma.compress(text, preset=9) if name.endswith(".xz") else gzip.compress(text, 9, mtime=0)
    (DATA / name).write_bytes(packed)


def changed_of(editor: str) -> str:
    """The largest recording: what is alike in it is far apart, so it is packed in another way."""
    return f"changed_{editor}.json.xz"


@cache
def node_list(editor: str = VERSION) -> ObjectInfo:
    return ObjectInfo.parse(load(f"object_info_{ENGINE[editor]}.json.gz"))


def templates() -> Path:
    """The folder of the templates, as the package installs it."""
    spec = importlib.util.find_spec("comfyui_workflow_templates_json")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "templates"


def template(name: str) -> Any:
    return json.loads((templates() / f"{name}.json").read_text(encoding="utf-8"))


Graph = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`differences` in words; without any, the file converts as the editor exports it.

    `today`: it converts as today's editor exports it, and this is an older editor.
    `damaged`: every node that differs is one where the editor's own export is wrong.
    """

    name: str
    differences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    today: bool = False
    damaged: bool = False

    @property
    def kind(self) -> str:
        if not self.differences:
            return "equal"
        if self.today:
            return "today"
        if not self.warnings:
            return "silent"
        return "damaged" if self.damaged else "warned"


def judged(name: str, file: Any, export: Graph, info: ObjectInfo, today: Graph | None = None) -> Verdict:
    """`today`: what today's editor exports of the same file, where `export` is an older editor's."""
    try:
        graph, warnings = api_format(file, info)
    except InvalidGraph as error:
        return Verdict(name=name, differences=("refused",), warnings=(str(error),))
    assert isinstance(graph, Mapping)
    if "groupNodes" in file.get("extra", ()):
        export = _with_ids_of(graph, export)
        today = None if today is None else _with_ids_of(graph, today)
    found = list(differences(graph, export, info))
    wrong = {each.node for each in found} - _refused(export, info)
    return Verdict(
        name=name,
        differences=tuple(str(each) for each in found),
        warnings=warnings,
        today=today is not None and not list(differences(graph, today, info)),
        damaged=all(_saved_by_another_version(node, warnings) for node in wrong),
    )


def _refused(export: Graph, info: ObjectInfo) -> set[str]:
    """The nodes that the engine refuses as the editor sends them."""
    try:
        return {problem.node_id or "" for problem in check_graph(parse_graph(export), info).problems}
    except InvalidGraph:
        return set(export)


def _saved_by_another_version(node: str, warnings: tuple[str, ...]) -> bool:
    """The file names inputs of the node that its class here does not have, and the editor goes by place."""
    return any(each.startswith(f"Node {node} (") and "has no such input" in each for each in warnings)


def _with_ids_of(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Newer editors give what is inside a group node new ids, in the same order."""
    mine = [key for key in ours if key not in theirs]
    new = dict(zip((key for key in theirs if key not in ours), mine, strict=False))

    def renamed(value: Any) -> Any:
        return [new.get(value[0], value[0]), value[1]] if isinstance(value, list) else value

    return {
        new.get(key, key): {
            **node,
            "inputs": {name: renamed(value) for name, value in node["inputs"].items()},
        }
        for key, node in theirs.items()
    }


@dataclass(frozen=True, slots=True)
class Difference:
    node: str
    text: str

    def __str__(self) -> str:
        return f"{self.node}{self.text}"


def differences(ours: Graph, theirs: Graph, info: ObjectInfo) -> Iterator[Difference]:
    """Nodes, classes and inputs; titles are for people. A value that only the editor sends, of a name that
    the class does not declare, is read by no engine (a display of older editors), and is no difference."""
    for node in sorted({*ours, *theirs}):
        if node not in ours or node not in theirs:
            yield Difference(node, f": {'not sent' if node in theirs else 'sent'}")
            continue
        mine, other = ours[node], theirs[node]
        if mine["class_type"] != other.get("class_type"):
            yield Difference(node, f": {mine['class_type']}, not {other.get('class_type')}")
        known = info.classes.get(mine["class_type"])
        specs = () if known is None else active(tuple(known.inputs.values()), other["inputs"])
        declared = {spec.name for spec in specs}
        for name in sorted({*mine["inputs"], *other["inputs"]}):
            here, there = mine["inputs"].get(name, "nothing"), other["inputs"].get(name, "nothing")
            display = name not in mine["inputs"] and name not in declared and not isinstance(there, list)
            if display and known is not None:
                continue
            if here != there or isinstance(here, bool) != isinstance(there, bool):
                yield Difference(node, f".{name}: {here!r:.80}, not {there!r:.80}")


def verdicts(editor: str, what: str) -> Iterator[Verdict]:
    """Of all files of one recording: exports, changed, edited or made."""
    path = DATA / (changed_of(editor) if what == "changed" else f"{what}_{editor}.json.gz")
    info = node_list(editor)
    today = _today(what) if editor == OLDER else {}
    for name, found in load(path.name).items() if path.exists() else ():
        match what:
            case "exports":
                yield judged(name, template(name), found, info, today.get(name))
            case "made":
                yield judged(name, found["file"], found["output"], info, today.get(name))
            case _:
                yield judged(name, found["saved"], found["output"], info, today.get(name))


def _today(what: str) -> dict[str, Graph]:
    """What today's editor sends of the older editor's files, on the same classes."""
    found: dict[str, Any] = {}
    match what:
        case "exports":
            found = load(f"exports_{ON_OLDER}.json.gz")
        case "made":
            found = {name: each["output"] for name, each in load(f"made_{ON_OLDER}.json.gz").items()}
        case "changed":
            found = load(f"reopened_{ON_OLDER}.json.gz")
        case _:
            pass
    return found
