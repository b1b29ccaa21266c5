"""What the editor was seen to do, recorded by `make editor` (tests/editor/record.py), and the comparison with
it.

tests/data/editor/ holds, all compressed, for each pair of an editor and the ComfyUI whose classes it has:
    object_info_ENGINE.json.gz   the whole answer of that ComfyUI's GET /object_info
    exports_EDITOR.json.gz       {template: API graph} for the templates of comfyui-workflow-templates-json
                                 (a pinned development dependency) whose classes that ComfyUI has
    changed_EDITOR.json.gz       {template: {saved, output}}: every control of a top node changed, and saved
    edited_1.58.1.json.gz        {template: {saved, output}}: some controls changed in the editor, and saved
    classes_1.58.1.json.gz       {class: {saved, sent}}: names in a new node's saved values, and sent
    made_EDITOR.json.gz          {case: {file, output}}: the small workflows of tests/editor/cases.py
"""

import gzip
import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from comfy_mcp.domain.errors import InvalidGraph
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.ui_conversion import api_format

DATA = Path(__file__).parents[1] / "data" / "editor"
VERSION, OLDER = "1.58.1", "1.32.9"
ENGINE = {VERSION: "0.33.0", OLDER: "0.3.75"}
"""The versions of the editor, and the ComfyUI whose classes each was given."""


def load(name: str) -> Any:
    return json.loads(gzip.decompress((DATA / name).read_bytes()))


def store(name: str, value: Any) -> None:
    text = json.dumps(value, separators=(",", ":"))  # the order of names in a file means something
    (DATA / name).write_bytes(gzip.compress(text.encode(), 9, mtime=0))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`differences` in words; without any, the file converts as the editor exports it."""

    name: str
    differences: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def kind(self) -> str:
        return "equal" if not self.differences else "warned" if self.warnings else "silent"


def judged(name: str, file: Any, export: Mapping[str, Any], info: ObjectInfo) -> Verdict:
    try:
        graph, warnings = api_format(file, info)
    except InvalidGraph as error:
        return Verdict(name=name, differences=("refused",), warnings=(str(error),))
    assert isinstance(graph, Mapping)
    if "groupNodes" in file.get("extra", ()):
        export = _with_ids_of(graph, export)
    return Verdict(name=name, differences=tuple(differences(graph, export)), warnings=warnings)


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


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """Nodes, classes and inputs; titles are for people."""
    for node in sorted({*ours, *theirs}):
        if node not in ours or node not in theirs:
            yield f"{node}: {'not sent' if node in theirs else 'sent'}"
            continue
        mine, other = ours[node], theirs[node]
        if mine["class_type"] != other.get("class_type"):
            yield f"{node}: {mine['class_type']}, not {other.get('class_type')}"
        for name in sorted({*mine["inputs"], *other["inputs"]}):
            here, there = mine["inputs"].get(name, "nothing"), other["inputs"].get(name, "nothing")
            if here != there or isinstance(here, bool) != isinstance(there, bool):
                yield f"{node}.{name}: {here!r:.80}, not {there!r:.80}"


def verdicts(editor: str, what: str) -> Iterator[Verdict]:
    """Of all files of one recording: exports, changed, edited or made."""
    path = DATA / f"{what}_{editor}.json.gz"
    info = node_list(editor)
    for name, found in load(path.name).items() if path.exists() else ():
        match what:
            case "exports":
                yield judged(name, template(name), found, info)
            case "made":
                yield judged(name, found["file"], found["output"], info)
            case _:
                yield judged(name, found["saved"], found["output"], info)
