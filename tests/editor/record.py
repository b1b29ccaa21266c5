"""`make editor`: asks ComfyUI's editor anew what it sends, and prints how our conversion compares.

    python -m tests.editor.record [templates] [edits] [classes] [cases]

Without arguments all are recorded; 530 templates take four to fifteen minutes on two cores. Chromium and the
editor's package are fetched into the cache folder first.
"""

import asyncio
import gzip
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from playwright.async_api import Page

from tests.editor.cases import CASES
from tests.editor.frontend import class_widgets, exported, open_editor
from tests.editor.recorded import DATA, VERSION, load, node_list, store, template, templates, verdicts

KINDS = ("templates", "edits", "classes", "cases")


async def main(kinds: tuple[str, ...]) -> None:
    object_info = gzip.decompress((DATA / "object_info_0.33.0.json.gz").read_bytes())
    with tempfile.TemporaryDirectory() as home:
        async with open_editor(VERSION, object_info, Path(home)) as page:
            if "cases" in kinds:
                made = {
                    name: {"file": case, "output": await _sent(page, case)} for name, case in CASES.items()
                }
                store(f"made_{VERSION}.json.gz", made)
            if "classes" in kinds:
                store(f"classes_{VERSION}.json.gz", await class_widgets(page, list(json.loads(object_info))))
            if "templates" in kinds:
                store(
                    f"exports_{VERSION}.json.gz",
                    {name: await _sent(page, template(name)) for name in known()},
                )
            if "edits" in kinds:
                await _edits(page)
    print_table()


def known() -> list[str]:
    """The templates of which the recorded node list has every class."""
    classes, found = set(node_list().classes) | {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}, []
    for path in sorted(templates().glob("*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(file, dict) or not file.get("nodes"):
            continue  # index.json and its translations
        inside = (file.get("definitions") or {}).get("subgraphs") or []
        used = {node["type"] for graph in (file, *inside) for node in graph["nodes"]}
        if used <= classes | {graph["id"] for graph in inside}:
            found.append(path.stem)
    return found


async def _sent(page: Page, file: Any) -> Any:
    return (await exported(page, file))["output"]


async def _edits(page: Page) -> None:
    """The recorded changes again: what the editor saves then, and sends."""
    before = load(f"edited_{VERSION}.json.gz")
    after = {}
    for name, pair in before.items():
        changes = [[node, control, value] for node, _, control, _, value in pair["changed"]]
        after[name] = await exported(page, template(name), changes)
    store(f"edited_{VERSION}.json.gz", after)


def print_table() -> None:
    found = list(verdicts())
    count = Counter(verdict.kind for verdict in found)
    print(
        f"files {len(found)} · equal {count['equal']} · warned {count['warned']} · silent {count['silent']}"
    )
    for verdict in found:
        if verdict.kind != "equal":
            print(f"{verdict.kind}: {verdict.name}: {verdict.differences[0]}; {verdict.warnings[:1]}")


if __name__ == "__main__":
    asked = tuple(sys.argv[1:]) or KINDS
    if asked == ("table",):
        print_table()
    else:
        asyncio.run(main(asked))
