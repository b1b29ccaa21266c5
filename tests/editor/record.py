"""`make editor`: asks ComfyUI's editor anew what it sends, compares, and writes docs/compatibility.md.

    python -m tests.editor.record [EDITOR] [KIND …] | table

Without arguments everything is recorded, for all editors: ten to thirty minutes on two cores. Chromium and
the editors' packages are fetched into the cache folder first.
"""

import asyncio
import gzip
import json
import re
import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from playwright.async_api import Error

from tests.editor import texts
from tests.editor.frontend import changed, class_widgets, exported, exported_at, open_editor
from tests.editor.odd_files import ALL_CASES
from tests.editor.recorded import (
    DATA,
    ENGINE,
    OLDER,
    ON_OLDER,
    VERSION,
    changed_of,
    load,
    node_list,
    store,
    template,
    templates,
    verdicts,
)

KINDS = ("cases", "classes", "templates", "changed", "edits", "texts", "reopened")
PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
PER_PAGE = 120
"""After so many workflows a new browser: the editor keeps what it has loaded."""


async def main(asked: tuple[str, ...]) -> None:
    kinds = tuple(kind for kind in KINDS if kind in asked) or KINDS
    for editor in tuple(each for each in ENGINE if each in asked) or tuple(ENGINE):
        for kind in kinds:
            if kind != "reopened" or editor == OLDER:
                await _record(editor, kind)
    write_table()


async def _record(editor: str, kind: str) -> None:
    print(f"{editor} {kind}", flush=True)
    match kind:
        case "cases":
            made = await _all(editor, cases(editor), lambda page, name: exported(page, ALL_CASES[name]))
            store(
                f"made_{editor}.json.gz",
                {name: {"file": ALL_CASES[name], "output": found["output"]} for name, found in made.items()},
            )
        case "classes" if editor == VERSION:
            async with _editor(editor) as page:
                store(f"classes_{editor}.json.gz", await class_widgets(page, list(node_list(editor).classes)))
        case "templates":
            sent = await _all(editor, known(editor), lambda page, name: exported(page, template(name)))
            store(f"exports_{editor}.json.gz", {name: found["output"] for name, found in sent.items()})
        case "changed":
            found = await _all(editor, known(editor), lambda page, name: changed(page, template(name)))
            store(
                changed_of(editor),
                {
                    name: {"saved": _lean(each["saved"]), "output": each["output"]}
                    for name, each in found.items()
                },
            )
        case "edits" if editor == VERSION:
            await _edits()
        case "reopened":
            await _reopened()
        case "texts" if editor == VERSION:
            await _texts()
        case _:
            pass


def _editor(editor: str) -> Any:
    object_info = gzip.decompress((DATA / f"object_info_{ENGINE[editor]}.json.gz").read_bytes())
    return open_editor(editor.partition("-")[0], object_info, Path(tempfile.mkdtemp()))


async def _all(editor: str, names: list[str], ask: Any) -> dict[str, Any]:
    """What the editor says of each; one that it can't export (3D without a screen) is left out."""
    found: dict[str, Any] = {}
    for at in range(0, len(names), PER_PAGE):
        async with _editor(editor) as page:
            for name in names[at : at + PER_PAGE]:
                try:
                    found[name] = await ask(page, name)
                except (Error, TimeoutError) as error:
                    print(f"{editor}: {name} is not exported: {str(error).splitlines()[:1]}", flush=True)
    return found


def cases(editor: str) -> list[str]:
    """Those that need no class that only the newer ComfyUI has."""
    lacking = set(node_list(VERSION).classes) - set(node_list(editor).classes)
    return [
        name for name, file in ALL_CASES.items() if not any(node["type"] in lacking for node in file["nodes"])
    ]


def known(editor: str) -> list[str]:
    """The templates of which the recorded node list has every class."""
    classes = set(node_list(editor).classes) | {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
    return [name for name, used in _used().items() if used <= classes]


@cache
def _used() -> dict[str, set[str]]:
    """The classes of each template."""
    found = {}
    for path in sorted(templates().glob("*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(file, dict) or not file.get("nodes"):
            continue  # index.json and its translations
        inside = (file.get("definitions") or {}).get("subgraphs") or []
        used = {node["type"] for graph in (file, *inside) for node in graph["nodes"]}
        found[path.stem] = used - {graph["id"] for graph in inside}
    return found


_DROPPED = frozenset(
    {"pos", "size", "flags", "order", "color", "bgcolor", "groups", "config", "ds", "models"}
)


def _lean(value: Any) -> Any:
    """Without what only the eye needs."""
    if isinstance(value, dict):
        named = value.get("widgets_values_named")  # an input may be called "size"
        lean = {key: _lean(each) for key, each in value.items() if key not in _DROPPED}
        return lean | ({} if named is None else {"widgets_values_named": named})
    return [_lean(each) for each in value] if isinstance(value, list) else value


async def _edits() -> None:
    """The recorded changes again: what the editor saves then, and sends."""
    before = load(f"edited_{VERSION}.json.gz")
    after = await _all(
        VERSION,
        list(before),
        lambda page, name: exported(
            page,
            template(name),
            [[node, control, value] for node, _, control, _, value in before[name]["changed"]],
        ),
    )
    store(f"edited_{VERSION}.json.gz", after)


async def _reopened() -> None:
    """The files that the older editor saved, in today's, with the same classes."""
    saved = load(changed_of(OLDER))
    sent = await _all(ON_OLDER, list(saved), lambda page, name: exported(page, saved[name]["saved"]))
    store(f"reopened_{ON_OLDER}.json.gz", {name: found["output"] for name, found in sent.items()})


async def _texts() -> None:
    """Texts that are drawn or filled in, at a fixed date: with the first and the last of all variants."""
    date = [texts.AT["year"], texts.AT["month"] - 1, *list(texts.AT.values())[2:]]
    found: dict[str, Any] = {}
    async with _editor(VERSION) as page:
        for name, file in texts.asked(node_list()).items():
            found[name] = [await exported_at(page, file, date, pick) for pick in (0, 0.99)]
    store(f"texts_{VERSION}.json.gz", found)


_ROWS = {
    "exports": "official templates whose classes that ComfyUI has",
    "changed": "templates with every control of their top nodes changed, as the editor then saves them",
    "edited": "templates with some controls changed",
    "made": "small workflows, one for each rule of the editor",
}


_KINDS_OF_VERDICT = ("equal", "today", "damaged", "warned", "silent")


def table() -> str:
    """The rows of docs/compatibility.md."""
    rows = [
        "| editor | classes of ComfyUI | files | | equal | as today's | damaged | warned | silent |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for editor, engine in ENGINE.items():
        for what, words in _ROWS.items():
            count = Counter(verdict.kind for verdict in verdicts(editor, what))
            if total := count.total():
                kinds = " | ".join(str(count[kind]) for kind in _KINDS_OF_VERDICT)
                rows.append(f"| {editor.partition('-')[0]} | {engine} | {words} | {total} | {kinds} |")
    return "\n".join(rows)


def write_table() -> None:
    """Into the page, and every difference to stdout."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        re.sub(r"\| editor \|.*?(?=\n\n)", lambda _: table(), text, flags=re.DOTALL), encoding="utf-8"
    )
    print(table())
    for editor in ENGINE:
        for what in _ROWS:
            for verdict in verdicts(editor, what):
                if verdict.kind != "equal":
                    print(f"{editor} {what} {verdict.kind}: {verdict.name}")
                    print("   ", *verdict.differences[:3], *verdict.warnings[:2], sep="\n    ")


if __name__ == "__main__":
    asked = tuple(sys.argv[1:])
    if asked == ("table",):
        write_table()
    else:
        asyncio.run(main(asked))
