"""ComfyUI's own editor in Chromium, over a stand-in for the engine that serves a recorded /object_info.

The editor comes as built pages from PyPI (`comfyui-frontend-package`, GPL-3.0) into the cache folder; nothing
of it is part of this project. It is asked two things only: load a workflow, and say what it saves and sends.
"""

import asyncio
import json
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web
from playwright.async_api import Page

from tests.support.browser import open_browser
from tests.support.real_comfyui_install import cache_root

READY_MS = 120_000
READY = """
() => {
    const app = window.app ?? window.comfyAPI?.app?.app;
    return app?.graph && app?.extensionManager && app?.canvas?.canvas
        && window.LiteGraph?.registered_node_types?.PrimitiveNode;
}
"""
NO_TUTORIAL = "localStorage.setItem('Comfy.Settings.Comfy.TutorialCompleted', 'true')"
AT_ONCE = 60

EXPORT = """
async ([file, changes]) => {
    const app = window.app ?? window.comfyAPI.app.app;
    await app.loadGraphData(file, true, false, null);
    const done = [];
    for (const [id, name, value] of changes) {
        const node = app.graph.getNodeById(id) ?? app.graph.getNodeById(Number(id));
        const widget = node?.widgets?.find((each) => each.name === name);
        if (!widget) continue;
        done.push([id, node.type, name, widget.value, value]);
        widget.value = value;
        widget.callback?.(value, app.canvas, node, [0, 0], null);
    }
    await new Promise((resolve) => setTimeout(resolve, 0));
    const { workflow, output } = await app.graphToPrompt();
    return JSON.stringify({ saved: workflow, output, changed: done });
}
"""
"""Load `file`, set widgets of top nodes, and export."""

EXPORT_AT = """
async ([file, date, pick]) => {
    const app = window.app ?? window.comfyAPI.app.app;
    await app.loadGraphData(file, true, false, null);
    const { random } = Math, Clock = Date;
    let asked = 0;  // some ids are drawn until they are new
    Math.random = () => pick + (asked++ % 9000) * 1e-6;
    globalThis.Date = class extends Clock {
        constructor(...given) { super(...(given.length ? given : date)); }
    };
    try { return JSON.stringify((await app.graphToPrompt()).output); }
    finally { Math.random = random; globalThis.Date = Clock; }
}
"""
"""Load `file`, and export at a fixed date, with the same draw each time (0: the first, 0.99: the last)."""

CHANGES = """
function change(app, node) {
    const other = ({ type, value, options }) => {
        if (type === "button" || options?.serialize === false) return undefined;
        const listed = typeof options?.values === "function" ? options.values() : options?.values;
        if (Array.isArray(listed)) return listed.find((each) => each !== value);
        if (typeof value === "boolean") return !value;
        if (typeof value === "string") return `${value} changed`;
        if (typeof value !== "number") return undefined;
        const step = Number.isInteger(value) ? Math.max(1, options?.step2 ?? 1) : 0.5;
        return value + step <= (options?.max ?? Infinity) ? value + step : value - step;
    };
    let changed = 0;
    for (const widget of [...(node.widgets ?? [])]) {
        if (!node.widgets.includes(widget) || widget.name === "control_after_generate") continue;
        const value = other(widget);
        if (value === undefined) continue;
        widget.value = value;
        widget.callback?.(value, app.canvas, node, [0, 0], null);
        changed += 1;
    }
    return changed;
}
"""
"""A function that gives every control of a node another value."""

CHANGE_ALL = (
    "async (file) => {"
    + CHANGES
    + """
    const app = window.app ?? window.comfyAPI.app.app;
    await app.loadGraphData(file, true, false, null);
    let changed = 0;
    for (const node of app.graph._nodes) changed += change(app, node);
    await new Promise((resolve) => setTimeout(resolve, 0));
    const { workflow, output } = await app.graphToPrompt();
    return JSON.stringify({ saved: workflow, output, changed });
}
"""
)
"""Load `file`, give every control of a top node another value, and export."""

CLASSES = """
async (types) => {
    const app = window.app ?? window.comfyAPI.app.app;
    const found = {};
    for (const type of types) {
        app.graph.clear();
        const node = window.LiteGraph.createNode(type);
        if (!node) continue;
        app.graph.add(node);
        await new Promise((resolve) => setTimeout(resolve, 0));
        const saved = Object.keys(node.serialize().widgets_values_named ?? {});
        let output = {};
        try { output = (await app.graphToPrompt()).output; } catch { /* a viewport without a screen */ }
        const inputs = output[String(node.id)]?.inputs;
        const sent = inputs && Object.keys(inputs).filter((name) => inputs[name] !== undefined);
        found[type] = { saved, sent: sent ?? null };
    }
    return JSON.stringify(found);
}
"""
"""A new node of each class: the names of its saved values, and of what it sends."""


def fetched(version: str) -> Path:
    """The folder of the built pages, downloaded once."""
    home = cache_root() / f"frontend-{version}"
    pages = home / "comfyui_frontend_package" / "static"
    if not pages.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        package = f"comfyui-frontend-package=={version}"
        command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--dest", str(home), package]
        subprocess.run(command, check=True)
        (wheel,) = home.glob("*.whl")
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(home)
        wheel.unlink()
    return pages


@asynccontextmanager
async def open_editor(version: str, object_info: bytes, home: Path) -> AsyncIterator[Page]:
    """A page of the editor, ready for `exported`. `home` takes the browser's files."""
    async with _stand_in(fetched(version), object_info) as url, open_browser(home) as browser:
        page = await browser.new_page()
        await page.add_init_script(NO_TUTORIAL)
        await page.goto(url)
        await page.wait_for_function(READY, timeout=READY_MS)
        await page.wait_for_timeout(3000)
        yield page


@asynccontextmanager
async def _stand_in(pages: Path, object_info: bytes) -> AsyncIterator[str]:
    app = web.Application()

    async def socket(request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        status = {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "stand-in"}
        await answer.send_json({"type": "status", "data": status})
        async for message in answer:
            if message.type is WSMsgType.ERROR:
                break
        return answer

    async def known(_: web.Request) -> web.Response:
        return web.Response(body=object_info, content_type="application/json")

    def always(value: Any) -> Any:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response(value)

        return answer

    async def index(_: web.Request) -> web.FileResponse:
        return web.FileResponse(pages / "index.html")

    for prefix in ("", "/api"):
        app.router.add_get(f"{prefix}/ws", socket)
        app.router.add_get(f"{prefix}/object_info", known)
        for path, value in _ANSWERS.items():
            app.router.add_get(f"{prefix}{path}", always(value))
        app.router.add_route("*", prefix + "/settings{rest:.*}", always({"Comfy.TutorialCompleted": True}))
        app.router.add_route("*", prefix + "/userdata{rest:.*}", always([]))
    app.router.add_get("/", index)
    app.router.add_static("/", pages)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


_ANSWERS: dict[str, Any] = {
    "/users": {"storage": "server", "migrated": True},
    "/system_stats": {
        "system": {
            "os": "posix",
            "comfyui_version": "0.33.0",
            "python_version": "3.12",
            "argv": [],
            "ram_total": 1,
            "ram_free": 1,
            "embedded_python": False,
            "pytorch_version": "2",
        },
        "devices": [],
    },
    "/features": {},
    "/extensions": [],
    "/embeddings": [],
    "/i18n": {},
    "/queue": {"queue_running": [], "queue_pending": []},
    "/history": {},
    "/jobs": {"jobs": [], "pagination": {"offset": 0, "limit": 200, "total": 0, "has_more": False}},
    "/prompt": {"exec_info": {"queue_remaining": 0}},
    "/workflow_templates": {},
    "/global_subgraphs": {},
    "/node_replacements": {},
    "/experiment/models": [],
    "/models": [],
    "/folder_paths": {},
    "/manager/version": "",
}


async def exported(page: Page, file: Any, changes: Any = ()) -> dict[str, Any]:
    """`saved` (the file that the editor then saves), `output` (what it sends), and `changed`: lists of node,
    class, control, value before and after. `changes`: (node, control, value) of nodes at the top."""
    async with asyncio.timeout(120):
        answer: dict[str, Any] = json.loads(await page.evaluate(EXPORT, [file, list(changes)]))
    return answer


async def changed(page: Page, file: Any) -> dict[str, Any]:
    """What the editor saves and sends after every control was changed."""
    answer: dict[str, Any] = json.loads(await page.evaluate(CHANGE_ALL, file))
    return answer


async def exported_at(page: Page, file: Any, date: list[int], pick: float) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(await page.evaluate(EXPORT_AT, [file, date, pick]))
    return answer


async def class_widgets(page: Page, types: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for at in range(0, len(types), AT_ONCE):
        found |= json.loads(await page.evaluate(CLASSES, types[at : at + AT_ONCE]))
    return found
