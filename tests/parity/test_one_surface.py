"""Operations that one surface has alone: there they answer as they do when they are called directly."""

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from click.testing import CliRunner

from comfy_mcp.cli.app import cli
from comfy_mcp.domain.access import ALL_RIGHTS
from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller, OperationContext
from comfy_mcp.operations.registry import BY_NAME, OPERATIONS
from comfy_mcp.settings import load_settings
from http_sidecar.routes import ROUTES, UPLOAD
from tests.support.graphs import picture, slow
from tests.support.mcp_process import environment
from tests.support.sidecar import Sidecar, open_sidecar
from tests.support.warm_python import WARM_PYTHON

COMMANDS: dict[str, tuple[str, ...]] = {
    "add_key": ("keys", "add", "agent", "--right", "read"),
    "list_keys": ("keys", "list"),
    "change_key": ("keys", "change", "agent", "--right", "submit", "--max-running", "2"),
    "revoke_key": ("keys", "revoke", "agent"),
    "abandon_workflow": ("jobs", "abandon"),
    "convert_workflow": ("convert",),
}
ENGINES: dict[str, tuple[str, ...]] = {
    "add_engine": ("engines", "add"),
    "drain_engine": ("engines", "drain"),
    "remove_engine": ("engines", "remove"),
    "resume_engine": ("engines", "resume"),
}
WEBHOOKS: dict[str, tuple[str, ...]] = {
    "set_webhook": ("webhooks", "set"),
    "rotate_webhook_secret": ("webhooks", "rotate"),
    "list_webhooks": ("webhooks", "list"),
    "remove_webhook": ("webhooks", "remove"),
    "list_deliveries": ("webhooks", "deliveries"),
    "replay_deliveries": ("webhooks", "replay"),
}
"""Of people and their programs, and no model's."""


def names(only: str) -> set[str]:
    return {operation.name for operation in OPERATIONS if operation.only == only}


def test_each_has_its_surface_and_no_other() -> None:
    assert names("cli") == set(COMMANDS)
    assert names("http") == {UPLOAD.operation, "workflow_preview"}  # the latter: tests/page/test_thumbs.py
    assert names("http and cli") == {*ENGINES, *WEBHOOKS} <= {route.operation for route in ROUTES}
    assert not names("cli") & {route.operation for route in (*ROUTES, UPLOAD)}
    assert not any(operation.tool or operation.resource for operation in OPERATIONS if operation.only)


async def test_the_command_line_gives_what_the_operation_gives(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as sidecar:
        added = await _shell(tmp_path, sidecar, *COMMANDS["add_key"])
        key = added.pop("key")
        listed = await _shell(tmp_path, sidecar, *COMMANDS["list_keys"])
        assert listed == {"keys": [added]} == await _direct(sidecar, "list_keys")
        headers = {"X-API-Key": key}
        assert (await sidecar("GET", "/v1/comfyui/workflows", headers=headers)).status == 200
        changed = await _shell(tmp_path, sidecar, *COMMANDS["change_key"])
        assert changed == {**added, "rights": ["submit"], "maxRunning": 2}
        assert changed == await _direct(sidecar, "change_key", name="agent", max_running=2)
        async with asyncio.timeout(20):  # a running server sees it within seconds
            while (await sidecar("GET", "/v1/comfyui/workflows", headers=headers)).status != 403:
                await asyncio.sleep(0.05)
        assert await _shell(tmp_path, sidecar, *COMMANDS["revoke_key"]) == {"name": "agent", "revoked": True}
        again = await _direct(sidecar, "add_key", name="other", rights=["read"])
        assert {**again, "name": "agent"}.keys() == {**added, "key": key}.keys()


async def test_an_engine_is_drained_and_resumed_either_way(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as sidecar:
        (engine,) = (await sidecar("GET", "/v1/status")).body["engines"]
        for name, drained in (("drain_engine", True), ("resume_engine", False)):
            by_shell = await _shell(tmp_path, sidecar, *ENGINES[name], engine["id"])
            assert by_shell == {"engine": engine["id"], "drained": drained}
            assert await _direct(sidecar, name, engine=engine["id"]) == by_shell
            (route,) = (route for route in ROUTES if route.operation == name)
            answer = await sidecar(route.method, route.path.replace("{engine}", engine["id"]))
            assert (answer.status, answer.body) == (route.success, by_shell)


async def test_an_engine_is_added_and_removed_either_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "engines.toml"
    monkeypatch.setenv("COMFY_BRIDGE_ENGINES_FILE", str(file))
    runner = CliRunner()
    state = ["--state-dir", str(tmp_path / "state")]
    added = await asyncio.to_thread(
        runner.invoke,
        cli,
        [*state, *ENGINES["add_engine"], "gpu-1", "http://127.0.0.1:9", "--label", "x", "--header", "A: b",
         "--token-file", "-", "--json"],
        input="s3cret\n",
    )  # fmt: skip
    assert json.loads(added.stdout)["file"] == str(file)
    (engine,) = load_settings().engines
    assert (engine.labels, engine.header_values()) == (("x",), {"A": "b", "Authorization": "Bearer s3cret"})
    removed = await asyncio.to_thread(
        runner.invoke, cli, [*state, *ENGINES["remove_engine"], "gpu-1", "--json"]
    )
    assert json.loads(removed.stdout).keys() == json.loads(added.stdout).keys()
    assert load_settings().engines == ()


async def test_a_webhook_is_set_and_its_deliveries_are_replayed_either_way(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as sidecar:

        async def http(name: str, **arguments: Any) -> Any:
            (route,) = (route for route in ROUTES if route.operation == name)
            answer = await sidecar(route.method, route.path, json=arguments or None)
            assert answer.status == route.success
            return answer.body

        client = ("--client", (await http("set_webhook", url="https://a.invalid/"))["client"])
        where = "https://b.invalid/"
        by_shell = await _shell(tmp_path, sidecar, *WEBHOOKS["set_webhook"], where, *client)
        assert by_shell == await _direct(sidecar, "set_webhook", url=where, client=client[1])
        assert "secret" not in by_shell
        listed = await http("list_webhooks")
        assert listed == {"webhooks": [by_shell]} == await _shell(tmp_path, sidecar, "webhooks", "list")
        for rotated in (
            await http("rotate_webhook_secret"),
            await _shell(tmp_path, sidecar, *WEBHOOKS["rotate_webhook_secret"], *client),
        ):
            assert rotated["secret"].startswith("whsec_")
        job_id = await sidecar.submit(slow())
        await _direct(sidecar, "cancel_workflow", workflow_id=job_id)
        assert (await _shell(tmp_path, sidecar, *WEBHOOKS["remove_webhook"], *client))["removed"]
        dead = await _shell(tmp_path, sidecar, *WEBHOOKS["list_deliveries"], "--state", "dead")
        assert [each["workflowId"] for each in dead["deliveries"]] == [job_id]
        assert dead == await http("list_deliveries")
        await http("set_webhook", url=where)
        replayed = await _shell(tmp_path, sidecar, *WEBHOOKS["replay_deliveries"])
        assert replayed == {"replayed": 1}
        assert (await http("replay_deliveries")) == {"replayed": 0}


async def test_a_workflow_that_is_abandoned_is_cancelled_either_way(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as sidecar:
        first, second = await sidecar.submit(slow()), await sidecar.submit(slow())
        by_shell = await _shell(tmp_path, sidecar, *COMMANDS["abandon_workflow"], first)
        directly = await _direct(sidecar, "abandon_workflow", workflow_id=second)
        assert by_shell.keys() == directly.keys()
        assert by_shell["status"] == directly["status"] == "cancelled"


async def test_a_file_is_converted_alike(tmp_path: Path) -> None:
    graph = picture()
    content = json.dumps(graph).encode()
    (tmp_path / "graph.json").write_bytes(content)
    async with open_sidecar(tmp_path) as sidecar:
        printed = await _shell(tmp_path, sidecar, *COMMANDS["convert_workflow"], "graph.json")
        directly = await _direct(sidecar, "convert_workflow", content=content)
        assert printed == {"files": [{"file": "graph.json", **directly}]}
        assert directly["graph"] == graph
        with pytest.raises(InvalidInput, match="no file"):
            await _direct(sidecar, "convert_workflow")


async def test_an_upload_gives_what_the_operation_gives(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as sidecar:
        form = FormData()
        form.add_field("image", b"12345", filename="a.bin")
        answer = await sidecar("POST", UPLOAD.path, data=form)
        assert answer.status == 201
        assert answer.body == await _direct(sidecar, "upload_input", content=b"12345", filename="a.bin")


async def _direct(sidecar: Sidecar, name: str, /, *, content: bytes | None = None, **arguments: Any) -> Any:
    async def chunks() -> Any:
        yield content

    context = OperationContext(
        services=sidecar.services,
        caller=Caller(client=ClientId("me"), surface="test", rights=ALL_RIGHTS),
        content=None if content is None else chunks(),
    )
    return (await BY_NAME[name].call(context, arguments)).model_dump(mode="json")


async def _shell(folder: Path, sidecar: Sidecar, *arguments: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        *(WARM_PYTHON, "-m", "comfy_mcp", *arguments, "--json"),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=environment(folder, sidecar.settings.engines[0].url),
        cwd=folder,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(out)
