"""Forks Python processes that have already imported the product: `python -m tests.support.fork_server FD`.

FD is one end of a Unix socket that keeps messages apart. A request is a JSON object, sent with three
descriptors that become the child's stdin, stdout, and stderr:
`{"arguments": ["-m", MODULE, ...] or [SCRIPT, ...], "env": {...}, "cwd": "...", "new_session": false}`.
The answers are the child's pid, and then a word that says that the child has its new parent: the process
that asked, which must be a subreaper meanwhile (warm_python.py). The server ends when the socket closes.
It has no threads and no event loop, because a fork copies neither.
"""

import atexit
import gc
import importlib
import io
import json
import os
import pkgutil
import random
import runpy
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel

PACKAGES = ("comfy_mcp", "http_sidecar")
RUN_BY_OTHERS = {"__main__", "env"}
"""Modules that `-m` or Alembic runs."""

MAX_REQUEST = 2**20


def main(descriptor: int) -> None:
    import_everything()
    make_ready()
    gc.freeze()  # the children share these pages as long as nobody writes to them
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the tests, and their end ends this
    control = socket.socket(fileno=descriptor)
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST, 3)
        if not request:
            return
        fork_orphan(control, json.loads(request), descriptors)
        for each in descriptors:
            os.close(each)


def import_everything() -> None:
    """All modules of the product that can be imported, and what its clients in tests need."""
    importlib.import_module("tests.support.ready_client")
    for package in map(importlib.import_module, PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.rpartition(".")[2] not in RUN_BY_OTHERS:
                importlib.import_module(module.name)


def make_ready() -> None:
    """What each process would load and make at its first use: a third of what its start takes."""
    importlib.import_module("anyio._backends._asyncio")
    models: list[type[BaseModel]] = [BaseModel]
    for model in models:
        models += model.__subclasses__()
        if model.__module__.startswith(PACKAGES):
            model.model_rebuild()


def fork_orphan(control: socket.socket, request: dict[str, Any], descriptors: Sequence[int]) -> None:
    """The system gives a child whose parent has ended to the next subreaper above."""
    between = os.fork()
    if between == 0:
        child = os.fork()
        if child == 0:
            control.close()
            become(request, descriptors)
        control.send(str(child).encode())
        os._exit(0)
    os.waitpid(between, 0)
    control.send(b"orphaned")


def become(request: dict[str, Any], descriptors: Sequence[int]) -> NoReturn:
    """Ends as an interpreter does, but without tearing down its modules."""
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        setattr(sys, name, reopened(getattr(sys, name), mode))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["new_session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    time.tzset()
    random.seed()
    status = status_of(request["arguments"])
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter's end does
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        traceback.print_exc()
        status = 120
    if status == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status)


def reopened(stream: Any, mode: str) -> io.TextIOWrapper:
    """The old object remembers what kind of file its descriptor was."""
    binary = open(stream.fileno(), f"{mode}b", closefd=False)  # noqa: SIM115 - for the life of the process
    return io.TextIOWrapper(
        binary, stream.encoding, stream.errors, line_buffering=binary.isatty() or stream is sys.stderr
    )


def status_of(arguments: list[str]) -> int:
    try:
        run(arguments)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return -signal.SIGINT
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        return 1
    return 0


def run(arguments: list[str]) -> None:
    """As `python ARGUMENTS` does."""
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).absolute().parent))
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(int(sys.argv[1]))
