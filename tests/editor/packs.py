"""What the scripts of packs of custom nodes make of their nodes: asks the editor of a running ComfyUI.

    python -m tests.editor.packs URL

URL is a ComfyUI with the packs installed and the editor that recorded.py pins (`--front-end-root`). Each
class of the packs is made as a new node and with every control changed, saved, opened again, and queued; the
POST is caught. Kept is what a conversion needs: declarations without descriptions, and one node a file.
"""

import asyncio
import json
import sys
import tempfile
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from playwright.async_api import Error

from tests.editor.frontend import CHANGES, NO_TUTORIAL, READY, READY_MS
from tests.editor.recorded import VERSION, store
from tests.support.browser import open_browser

AT_ONCE, PER_PAGE = 20, 200
LONGEST = 60
"""A class with a longer text in its defaults is left out: that is somebody's prose."""

_KEPT = frozenset(
    {
        *("default", "options", "forceInput", "widgetType", "control_after_generate", "dynamicPrompts"),
        *("image_upload", "video_upload", "audio_upload", "file_upload", "image_folder", "multiselect"),
        *("template", "remote", "formats", "hidden", "socketless"),
    }
)

_ASK = (
    "async (types) => {"
    + CHANGES
    + """
    const app = window.app ?? window.comfyAPI.app.app, { api } = window.comfyAPI.api;
    const pause = () => new Promise((resolve) => setTimeout(resolve, 25));
    const found = {}, post = api.queuePrompt;
    for (const name of types.flatMap((each) => [each, `${each} #changed`])) {
        try {
            app.graph.clear();
            const node = window.LiteGraph.createNode(name.replace(" #changed", ""));
            app.graph.add(node);
            await pause();
            if (name.endsWith(" #changed")) change(app, node);
            await pause();
            const saved = JSON.parse(JSON.stringify((await app.graphToPrompt()).workflow));
            await app.loadGraphData(JSON.parse(JSON.stringify(saved)), true, false, null);
            await pause();
            let output = null;
            api.queuePrompt = async (_, data) => {
                output = JSON.parse(JSON.stringify(data.output));
                return { prompt_id: "x", number: 1, node_errors: {} };
            };
            await app.queuePrompt(0, 1);
            if (output) found[name] = { saved, output };
        } catch { /* a script that needs more than a node of its own */ }
        finally { api.queuePrompt = post; }
    }
    return JSON.stringify(found);
}
"""
)


async def main(url: str) -> None:
    with urllib.request.urlopen(f"{url}/object_info") as answer:
        known = json.load(answer)
    types = [
        name for name, each in known.items() if str(each.get("python_module")).startswith("custom_nodes")
    ]
    found: dict[str, Any] = {}
    for at in range(0, len(types), PER_PAGE):
        async with open_browser(Path(tempfile.mkdtemp())) as browser:
            page = await browser.new_page()
            await page.add_init_script(NO_TUTORIAL)
            await page.goto(url)
            await page.wait_for_function(READY, timeout=READY_MS)
            await page.wait_for_timeout(6000)
            for start in range(at, min(at + PER_PAGE, len(types)), AT_ONCE):
                asked = types[start : min(start + AT_ONCE, at + PER_PAGE)]
                try:
                    async with asyncio.timeout(120):
                        found |= json.loads(await page.evaluate(_ASK, asked))
                except (Error, TimeoutError) as error:
                    print(f"{asked}: {str(error).splitlines()[:1]}", flush=True)
    store(f"packs_{VERSION}.json.gz", kept(known, found))


def kept(known: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    files: dict[str, Any] = {}
    used: dict[str, list[Any]] = {}
    for name, each in found.items():
        (node,) = each["saved"]["nodes"]
        if all(len(text) <= LONGEST for text in _texts([node.get("widgets_values"), each["output"]])):
            lean = {key: value for key, value in node.items() if key not in {"pos", "size", "flags", "order"}}
            files[name] = {"file": {"nodes": [lean], "links": []}, "output": each["output"]}
            of = used.setdefault(name.removesuffix(" #changed"), [])
            of.extend(value for sent in each["output"].values() for value in sent["inputs"].values())
    return {"classes": {name: _class(known[name], values) for name, values in used.items()}, "files": files}


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _class(raw: Mapping[str, Any], used: list[Any]) -> dict[str, Any]:
    groups = {
        group: {name: _declaration(each, used) for name, each in raw["input"].get(group, {}).items()}
        for group in ("required", "optional")
    }
    facts = ("output", "output_node", "python_module", "name")
    return {"input": groups, **{name: raw.get(name) for name in facts}}


def _declaration(raw: Any, used: list[Any]) -> Any:
    """Of a list of options, the first two and those that a file has."""
    if not isinstance(raw, list) or not raw:
        return raw
    options = raw[1] if len(raw) > 1 and isinstance(raw[1], dict) else {}
    lean = {name: _some(value, used) if name == "options" else value for name, value in options.items()}
    return [_some(raw[0], used), {name: value for name, value in lean.items() if name in _KEPT}]


def _some(listed: Any, used: list[Any]) -> Any:
    if not isinstance(listed, list) or any(isinstance(each, dict) for each in listed):
        return listed
    return [each for at, each in enumerate(listed) if at < 2 or each in used]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1].rstrip("/")))
