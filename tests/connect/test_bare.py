"""A machine with Python and nothing of this tree: pip, pipx, uvx and a bundle's client install the wheel with
all that it needs, and it is an MCP server there."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from comfy_mcp import __version__
from connect.dist import NAME, manifest, server_json
from tests.connect.test_clients import HANDSHAKE
from tests.support.wheelhouse import pipx_wheels, wheelhouse

UV = (sys.executable, "-m", "uv")
ONLY_HERE = (
    f"environments = [\"sys_platform == '{sys.platform}' and python_version == "
    f"'{sys.version_info[0]}.{sys.version_info[1]}'\"]"
)


@pytest.fixture(scope="module")
def bare(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of a user whose index has the wheels of the lock file, and ours."""
    home = tmp_path_factory.mktemp("bare")
    links = f"{wheelhouse()} {dist}"
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "COMFY_BRIDGE_STATE_DIR": str(home / "state"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": links,
        "PIP_NO_COMPILE": "no",  # which pip reads as: no bytecode of modules that nothing here imports
        "UV_OFFLINE": "1",
        "UV_NO_INDEX": "1",
        "UV_NO_CONFIG": "1",
        "UV_FIND_LINKS": links.replace(" ", ","),
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
    }


def run(bare: Mapping[str, str], *command: object, stdin: str = "") -> str:
    done = subprocess.run(
        [str(word) for word in command],
        input=stdin,
        cwd=bare["HOME"],
        env=dict(bare),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_a_server(bare: Mapping[str, str], *command: object) -> None:
    said = run(bare, *command, stdin=json.dumps(HANDSHAKE) + "\n")
    info = json.loads(said.splitlines()[0])["result"]["serverInfo"]
    assert (info["name"], info["version"]) == (NAME, __version__)


def test_pip_installs_all_that_the_wheel_needs(bare: Mapping[str, str], dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    venv = Path(bare["HOME"]) / "venv"
    run(bare, sys.executable, "-m", "venv", venv)
    run(bare, venv / "bin" / "pip", "install", "--quiet", wheel)
    assert run(bare, venv / "bin" / "comfy-bridge", "--version").split() == [
        "comfy-bridge,",
        "version",
        __version__,
    ]
    is_a_server(bare, venv / "bin" / "comfy-bridge", "mcp")


@pytest.fixture(scope="module")
def with_pipx(bare: Mapping[str, str]) -> Mapping[str, str]:
    """The same, with pipx in HOME/for-pipx."""
    venv = Path(bare["HOME"]) / "for-pipx"
    more = {
        "PIP_FIND_LINKS": f"{bare['PIP_FIND_LINKS']} {pipx_wheels()}",
        "PIPX_HOME": f"{bare['HOME']}/pipx",
        "PIPX_BIN_DIR": f"{bare['HOME']}/bin",
        "PIPX_DEFAULT_PYTHON": sys.executable,
    }
    run(bare, sys.executable, "-m", "venv", venv)
    run({**bare, **more}, venv / "bin" / "pip", "install", "--quiet", "pipx")
    return {**bare, **more}


@pytest.mark.parametrize("extra", ["", "[media]"])
def test_pipx_installs_the_command(with_pipx: Mapping[str, str], dist: Path, extra: str) -> None:
    """In an environment of its own, as README.md says."""
    (wheel,) = dist.glob("*.whl")
    pipx = Path(with_pipx["HOME"]) / "for-pipx" / "bin" / "pipx"
    assert "comfy-bridge" in run(with_pipx, pipx, "install", "--force", f"{wheel}{extra}")
    is_a_server(with_pipx, Path(with_pipx["PIPX_BIN_DIR"]) / "comfy-bridge", "mcp")
    packages = run(with_pipx, pipx, "runpip", NAME, "list")
    assert ("\nav " in packages) is bool(extra)


def test_uvx_runs_what_the_registry_names(bare: Mapping[str, str]) -> None:
    (package,) = server_json()["packages"]
    words = [argument["value"] for argument in package["packageArguments"]]
    assert package["runtimeHint"] == "uvx"
    is_a_server(bare, *UV, "tool", "run", f"{package['identifier']}@{package['version']}", *words)


def test_a_bundle_starts_as_its_client_starts_it(bare: Mapping[str, str], dist: Path) -> None:
    (bundle,) = dist.glob("*.mcpb")
    folder = Path(bare["HOME"]) / "bundle"
    with zipfile.ZipFile(bundle) as opened:
        opened.extractall(folder)
    project = folder / "pyproject.toml"  # the index of this test has the wheels of this machine only
    project.write_text(project.read_text().replace("[tool.uv]", f"[tool.uv]\n{ONLY_HERE}"))
    start = manifest()["server"]["mcp_config"]
    assert start["command"] == "uv"
    is_a_server(bare, *UV, *(word.replace("${__dirname}", str(folder)) for word in start["args"]))
    installed = {path.name.partition("-")[0] for path in folder.glob(".venv/lib/*/site-packages/*.dist-info")}
    assert {"comfy_mcp_bridge", "av"} <= installed
