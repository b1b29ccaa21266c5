"""The whole path in a minute: an agent's calls over MCP, a job in the store, a picture from an engine.

    python examples/demo.py                      the embedded engine (no models, no GPU)
    python examples/demo.py --engine comfyui     a real ComfyUI on CPU, installed on first use (1.6 GB)
    python examples/demo.py --store postgresql   the jobs in PostgreSQL, which is fetched on first use (60 MB)
    COMFYUI_URL=http://host:8188 python examples/demo.py     a ComfyUI that is already there

It prints a table of what happens and, as its last line, the path of the picture. Everything it writes is in
demo-output/: pictures, the store, the engine's files, the logs.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.exceptions import MCPError
from mcp_types import BlobResourceContents, CallToolResult, ImageContent, TextResourceContents

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
START_S = 30.0
FETCH_S = 600.0
WHOLE_S = 300.0
FINAL = {"completed", "failed", "cancelled"}


class DemoError(Exception):
    """Something that the user can understand and act on."""


@dataclass(kw_only=True)
class Row:
    """One step of the demo, as the table shows it."""

    step: str
    what: str = ""
    ms: float = 0.0


@dataclass(kw_only=True)
class Report:
    """A table: each row is printed when its step is done."""

    begun: bool = False

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Row]:
        row, began = Row(step=name), perf_counter()
        yield row
        row.ms = (perf_counter() - began) * 1000
        self.print(row)

    def print(self, row: Row) -> None:
        if not self.begun:
            self.begun = True
            print(f"{'step':<15}  {'ms':>8}  what\n{'-' * 15}  {'-' * 8}  {'-' * 4}")
        print(f"{row.step:<15}  {row.ms:>8.1f}  {row.what}", flush=True)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Where pictures are made, and what to make there, the best one last."""

    url: str
    workflows: tuple[str, ...]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=["embedded", "comfyui"], default="embedded")
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--output", type=Path, default=ROOT / "demo-output", metavar="DIR")
    options = parser.parse_args()
    output: Path = options.output.resolve()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as for Ctrl-C
    report = Report()
    try:
        output.mkdir(parents=True, exist_ok=True)
        with open_store(options.store, output, report), open_engine(options.engine, output, report) as engine:
            picture = asyncio.run(drive(engine, output, report))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("demo: interrupted; everything it started has been stopped")
        return 130
    except (DemoError, OSError, MCPError, BaseExceptionGroup) as error:
        say(f"demo failed: {reason(error)}")
        say(f"the logs are in {output}")
        return 1
    print(picture)
    return 0


def reason(error: BaseException) -> str:
    """In words; task groups wrap what went wrong."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


# ----------------------------------------------------------------------------------------------- store


@contextlib.contextmanager
def open_store(kind: str, output: Path, report: Report) -> Iterator[None]:
    """SQLite needs nothing. A database server runs for the time of the context, and the bridge finds it by
    the environment."""
    if kind == "sqlite":
        yield
        return
    with (output / "postgresql.log").open("w") as log:
        with report.step("start store") as row:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.postgres"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                text=True,
            )
            os.environ["COMFY_BRIDGE_STORE"] = first_line(process, "PostgreSQL", FETCH_S)
            row.what = f"PostgreSQL, with a folder of its own (pid {process.pid})"
        try:
            yield
        finally:
            stop(process)


# --------------------------------------------------------------------------------------------- engines


@contextlib.contextmanager
def open_engine(kind: str, output: Path, report: Report) -> Iterator[Engine]:
    """An engine for the time of the context; what was started is stopped."""
    given = os.environ.get("COMFYUI_URL")
    if given:
        yield Engine(url=given, workflows=("01_picture.json",))
    elif kind == "comfyui":
        with real_comfyui(output, report) as url:
            yield Engine(url=url, workflows=("01_picture.json", "txt2img_sd15.json"))
    else:
        with embedded_engine(output, report) as url:
            yield Engine(url=url, workflows=("02_slow_steps.json", "01_picture.json"))


@contextlib.contextmanager
def embedded_engine(output: Path, report: Report) -> Iterator[str]:
    command = [sys.executable, "-m", "comfy_mcp", "engine", "--port", "0"]
    command += ["--base-directory", str(output / "engine")]
    with (output / "engine.log").open("w") as log:
        with report.step("start engine") as row:
            process = subprocess.Popen(  # noqa: S603 - this interpreter, with arguments from here
                command, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, text=True
            )
            url = first_line(process, "the embedded engine")
            row.what = f"the embedded engine at {url} (pid {process.pid})"
        try:
            yield url
        finally:
            stop(process)


@contextlib.contextmanager
def real_comfyui(output: Path, report: Report) -> Iterator[str]:
    sys.path.insert(0, str(ROOT))
    from tests.support.real_comfyui import ComfyUIStartError, InstallError, RealComfyUI

    say("a real ComfyUI is installed on first use; that takes some minutes")
    try:
        with report.step("install engine") as row:
            comfyui = RealComfyUI(output / "comfyui")
            row.what = "ComfyUI 0.3.75 on CPU, with a tiny random checkpoint"
        with report.step("start engine") as row:
            comfyui.start()
            row.what = f"ComfyUI at {comfyui.url} (pid {comfyui.pid})"
    except (InstallError, ComfyUIStartError) as error:
        raise DemoError(str(error)) from None
    try:
        yield comfyui.url
    finally:
        comfyui.stop()


def first_line(process: "subprocess.Popen[str]", what: str, limit_s: float = START_S) -> str:
    """The URL that a server prints when it answers."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], limit_s)
    line = process.stdout.readline().strip() if ready else ""
    if not line:
        stop(process)
        raise DemoError(f"{what} did not start (exit code {process.returncode}): see its log")
    return line


def stop(process: "subprocess.Popen[str]") -> None:
    """By its pid, and for good after a grace period."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


# ------------------------------------------------------------------------------------------ the client


async def drive(engine: Engine, output: Path, report: Report) -> Path:
    """Be an agent: everything goes through MCP. Returns the path of the picture."""
    me = asyncio.current_task()
    assert me is not None
    interrupted = asyncio.Event()

    def stop() -> None:
        interrupted.set()
        me.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    async with asyncio.timeout(WHOLE_S):
        with (output / "mcp.log").open("w") as log:
            async with connect(engine.url, output, log, report) as client:
                with report.step("tools/list") as row:
                    tools = (await client.list_tools()).tools
                    row.what = f"{len(tools)} tools: {', '.join(tool.name for tool in tools[:3])}, ..."
                with report.step("system_status") as row:
                    row.what = described(await call(client, "system_status"))
                picture: Path | None = None
                for name in engine.workflows:
                    picture = await make(client, name, output, report)
    if interrupted.is_set():  # whatever on the way swallowed the cancellation
        raise asyncio.CancelledError
    assert picture is not None
    return picture


@contextlib.asynccontextmanager
async def connect(url: str, output: Path, log: TextIO, report: Report) -> AsyncIterator[Client]:
    """`comfy-bridge mcp` as a subprocess, as an agent starts it."""
    passed_on = {name: value for name, value in os.environ.items() if name.startswith("COMFY")}
    own = {"COMFYUI_URL": url, "COMFY_BRIDGE_STATE_DIR": str(output / "state")}
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "comfy_mcp", "mcp"], env=passed_on | own, cwd=ROOT
    )
    began = perf_counter()
    async with Client(stdio_client(server, errlog=log), read_timeout_seconds=60) as client:
        what = f"comfy-bridge mcp over stdio, protocol {client.protocol_version}"
        report.print(Row(step="connect", what=what, ms=(perf_counter() - began) * 1000))
        yield client


async def make(client: Client, name: str, output: Path, report: Report) -> Path:
    """Submit one workflow, follow it, fetch its first picture."""
    graph = await for_this_engine(client, json.loads((HERE / name).read_text()))
    with report.step("submit_workflow") as row:
        submitted = await call(client, "submit_workflow", {"workflow": graph})
        workflow_id = submitted["workflowId"]
        row.what = f"{name} is {workflow_id}, position {submitted['queuePosition']}"
    with report.step("follow") as row:
        state, updates, reports = await follow(client, workflow_id)
        row.what = f"{state['status']}; {updates} resource updates, {reports} progress notifications"
    if state["status"] != "completed":
        raise DemoError(f"{name} {state['status']}: {state['error']}")
    image = next(item for item in state["outputs"] if item["type"] == "image")
    with report.step("view_output") as row:
        row.what = previewed(await client.call_tool("view_output", {"output_id": image["outputId"]}))
    with report.step("resources/read") as row:
        content = (await client.read_resource(f"comfy://outputs/{image['outputId']}")).contents[0]
        assert isinstance(content, BlobResourceContents)
        data = base64.b64decode(content.blob)
        path = save(output, image["filename"], data)
        row.what = f"{path.name}, {len(data)} bytes"
    return path


def save(folder: Path, name: str, data: bytes) -> Path:
    path = folder / Path(name).name
    path.write_bytes(data)
    return path


async def for_this_engine(client: Client, graph: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint is one that this engine has; the tiny one gets a tiny picture."""
    loaders = [node for node in graph.values() if node["class_type"] == "CheckpointLoaderSimple"]
    if not loaders:
        return graph
    models = (await call(client, "list_models", {"type": "checkpoints"}))["models"]
    if not models:
        raise DemoError("the engine has no checkpoint: put one into its models/checkpoints")
    names = [model["name"] for model in models]
    for node in loaders:
        if node["inputs"]["ckpt_name"] not in names:
            node["inputs"]["ckpt_name"] = names[0]
    if names[0].startswith("tiny-random"):
        for node in graph.values():
            node["inputs"] |= {"width": 128, "height": 128} if "Latent" in node["class_type"] else {}
    return graph


async def follow(client: Client, workflow_id: str) -> tuple[dict[str, Any], int, int]:
    """Both ways in which a client gets progress, at once. Final state, updates, progress notifications."""
    uri = f"comfy://workflows/{workflow_id}"
    updates = reports = 0
    bar = Bar()

    async def watch() -> None:
        nonlocal updates
        async with client.listen(resource_subscriptions=[uri]) as events:
            # What happened before the subscription is in the state, not in the stream.
            if (await read_state(client, uri))["status"] in FINAL:
                return
            async for _ in events:
                updates += 1
                if (await read_state(client, uri))["status"] in FINAL:
                    return

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        nonlocal reports
        reports += 1
        bar.show(progress, message or "")

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        while True:
            result = await client.call_tool(
                "wait_for_workflow",
                {"workflow_id": workflow_id, "timeout_s": 30},
                progress_callback=on_progress,
            )
            state = structured(result)
            if state["status"] in FINAL:
                break
    bar.show(state["progress"], state["status"])
    bar.close()
    return state, updates, reports


async def read_state(client: Client, uri: str) -> dict[str, Any]:
    content = (await client.read_resource(uri, cache_mode="bypass")).contents[0]
    assert isinstance(content, TextResourceContents)
    state: dict[str, Any] = json.loads(content.text)
    return state


async def call(client: Client, tool: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    return structured(await client.call_tool(tool, arguments or {}))


def structured(result: CallToolResult) -> dict[str, Any]:
    """The v1 JSON of a result. Raises DemoError with the server's words."""
    if result.is_error or result.structured_content is None:
        raise DemoError(" ".join(getattr(part, "text", "") for part in result.content))
    return dict(result.structured_content)


def described(system: dict[str, Any]) -> str:
    engine = system["engines"][0]
    if not engine["up"]:
        raise DemoError(f"no ComfyUI answers at {engine['url']}: {engine['error']}")
    kind = "ComfyUI" if engine["isComfyui"] else "the embedded engine, not ComfyUI"
    gpus = ", ".join(gpu["name"] for gpu in system["gpu"]["gpus"]) or "no GPU"
    return f"{kind} {engine['version']}, {gpus}"


def previewed(result: CallToolResult) -> str:
    """What an agent sees: a small picture in the answer itself."""
    images = [part for part in result.content if isinstance(part, ImageContent)]
    if not images:
        structured(result)
        raise DemoError("view_output gave no picture")
    return f"a preview of {len(base64.b64decode(images[0].data))} bytes, {images[0].mime_type}"


class Bar:
    """A progress bar on stderr, where that is a terminal."""

    WIDTH = 30

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def show(self, percent: float, text: str) -> None:
        if self._shown:
            done = round(self.WIDTH * percent / 100)
            sys.stderr.write(f"\r\x1b[2K[{'#' * done}{'.' * (self.WIDTH - done)}] {percent:3.0f} % {text}")
            sys.stderr.flush()

    def close(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()


def say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
