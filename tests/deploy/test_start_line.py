"""The container's start line outside of one, on the built wheel and in the compose file's environment: no
capabilities, no way to gain any, and nothing to write to but the state folder and /tmp."""

import asyncio
import os
import re
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from tests.deploy.conftest import make_read_only
from tests.deploy.files import compose, entrypoint, image_environment
from tests.support.graphs import picture

BRIDGE: dict[str, Any] = compose()["services"]["bridge"]
WORKFLOW = "/v1/comfyui/workflow"
LIMIT_S = 60.0

pytestmark = pytest.mark.timeout(900)  # the first of them installs the wheel and what it depends on


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What stands for the container. `environment` is the compose file's, with the places of this test."""

    folder: Path
    environment: dict[str, str]
    key: str

    @property
    def state(self) -> Path:
        return self.folder / "state"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[str]:
    async with EmbeddedEngine(EngineConfig(base_directory=tmp_path / "engine")) as engine:
        yield engine.url


@pytest.fixture
def place(tmp_path: Path, installed: Path, engine: str) -> Iterator[Place]:
    root = tmp_path / "root"
    for name in ("home", "cwd", "tmp", "state", "secrets"):
        (root / name).mkdir(parents=True)
    key = secrets.token_urlsafe(32)
    (secret,) = BRIDGE["secrets"]
    (root / "secrets" / secret).write_text(f"{key}\n", encoding="utf-8")
    here = {
        "COMFYUI_URL": engine,
        "COMFY_BRIDGE_HTTP_HOST": "127.0.0.1",
        "COMFY_BRIDGE_HTTP_PORT": "0",
        "COMFY_BRIDGE_STATE_DIR": str(root / "state"),
        "COMFY_BRIDGE_SECRETS_DIR": str(root / "secrets"),
    }
    assert set(here) <= set(BRIDGE["environment"])
    system = {
        "PATH": f"{installed / 'bin'}:/usr/bin:/bin",
        "HOME": str(root / "home"),
        "TMPDIR": str(root / "tmp"),
    }
    make_read_only(root)
    for name in ("tmp", "state"):
        (root / name).chmod(0o700)
    yield Place(folder=root, environment=image_environment() | system | BRIDGE["environment"] | here, key=key)
    for path in (root, *root.iterdir()):
        path.chmod(0o700)  # so that pytest can clear it away


def confined(*command: str) -> list[str]:
    """Without capabilities, as with `cap_drop: [ALL]`: root, too, may do only what the permissions say."""
    setpriv = shutil.which("setpriv")
    assert setpriv is not None, "setpriv, of util-linux, is needed"
    dropped = ["--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    return [setpriv, "--no-new-privs", *dropped, "--", *command]


async def start(place: Place, *command: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *confined(*command),
        cwd=place.folder / "cwd",
        env=place.environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def started(place: Place) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The process that the container runs, and its URL."""
    process = await start(place, *entrypoint(), *BRIDGE["command"])
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.TaskGroup() as tasks:
        log = tasks.create_task(process.stderr.read())
        try:
            async with asyncio.timeout(LIMIT_S):
                url = (await process.stdout.readline()).decode().strip()
            assert url.startswith("http://"), (await log).decode()
            yield process, url
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def finished(place: Place, *command: str) -> tuple[int, str]:
    """Exit code, and what it said to people."""
    process = await start(place, *command)
    async with asyncio.timeout(LIMIT_S):
        _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


def grace_s() -> float:
    return float(BRIDGE["stop_grace_period"].removesuffix("s"))


def health_of(place: Place, url: str) -> tuple[Place, list[str]]:
    kind, *command = BRIDGE["healthcheck"]["test"]
    assert kind == "CMD"
    return (
        replace(place, environment=place.environment | {"COMFY_BRIDGE_HTTP_PORT": url.rpartition(":")[2]}),
        command,
    )


async def test_it_runs_a_job_with_nothing_writable_but_its_state_and_goes_within_the_grace(
    place: Place,
) -> None:
    async with started(place) as (process, url), aiohttp.ClientSession() as http:
        inside, health = health_of(place, url)
        assert await finished(inside, *health) == (0, "")

        async with http.post(f"{url}{WORKFLOW}", json={"workflow": picture()}) as refused:
            assert refused.status == 401
        keyed = {"X-API-Key": place.key}
        async with http.post(f"{url}{WORKFLOW}", json={"workflow": picture()}, headers=keyed) as taken:
            assert taken.status == 202
            job = (await taken.json())["workflowId"]
        async with http.get(f"{url}{WORKFLOW}/{job}/wait?timeoutS=50", headers=keyed) as answer:
            state = await answer.json()
        assert state["status"] == "completed"
        async with http.get(f"{url}{state['outputs'][0]['url']}", headers=keyed) as output:
            assert (output.status, output.content_type) == (200, "image/png")

        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(grace_s()):
            assert await process.wait() == 0
    assert await finished(inside, *health) != (0, ""), "nobody answers: not healthy"
    assert (place.state / "bridge.sqlite3").stat().st_size > 0
    assert written(place) == {"state"}


def written(place: Place) -> set[str]:
    return {path.name for path in place.folder.iterdir() if path.name != "secrets" and any(path.iterdir())}


async def test_the_folders_around_it_can_really_not_be_written_to(place: Place, installed: Path) -> None:
    for folder in ("home", "cwd", "secrets", installed):
        code, said = await finished(place, "touch", str(place.folder / folder / "new"))
        assert (code, "Permission denied" in said) == (1, True)


@pytest.mark.parametrize("page", ["/", "/docs"])
async def test_the_wheel_has_every_file_of_its_pages(place: Place, page: str) -> None:
    """Also those that one script imports from another."""
    async with started(place) as (_, url), aiohttp.ClientSession() as http:
        todo, seen = [URL(f"{url}{page}")], set[URL]()
        while todo:
            address = todo.pop()
            seen.add(address)
            async with http.get(address, headers={"Accept": "text/html, */*"}) as answer:
                assert answer.status == 200, address
                found = linked(await answer.text(), answer.content_type)
            own = [each for each in map(address.join, found) if each.scheme == "http"]  # not data:
            todo += [each for each in own if each not in seen and each not in todo]
    assert {each.suffix for each in seen} >= {".js", ".css"}


def linked(text: str, content_type: str) -> list[URL]:
    if content_type == "text/html":
        return [URL(found) for found in re.findall(r'(?:src|href)="([^"#{]+)"', text)]
    if content_type in {"text/javascript", "application/javascript"}:
        return [URL(found) for found in re.findall(r'\bfrom "(\.[^"]+)"', text)]
    return []


async def test_without_its_key_it_does_not_start(place: Place) -> None:
    """On the address that the compose file gives: it would listen for everybody."""
    everybody = BRIDGE["environment"]["COMFY_BRIDGE_HTTP_HOST"]
    bare = place.folder / "tmp" / "no-secrets"
    bare.mkdir()
    open_door = {"COMFY_BRIDGE_HTTP_HOST": everybody, "COMFY_BRIDGE_SECRETS_DIR": str(bare)}
    open_place = replace(place, environment=place.environment | open_door)
    code, said = await finished(open_place, *entrypoint(), *BRIDGE["command"])
    assert code != 0
    assert "Without a key" in said


async def test_a_folder_of_secrets_that_was_not_mounted_stops_it(place: Place) -> None:
    gone = replace(place, environment=place.environment | {"COMFY_BRIDGE_SECRETS_DIR": "/no/such/folder"})
    code, said = await finished(gone, *entrypoint(), *BRIDGE["command"])
    assert code != 0
    assert "COMFY_BRIDGE_SECRETS_DIR is not a folder" in said
