"""Real processes that start in milliseconds: one process imports everything once and forks on demand.

`python -m tests.support.zygote FD`: FD is one end of a Unix socket. A request is one JSON line, sent with
three descriptors that become the child's stdin, stdout and stderr:
`{"kind": "engine" | "bridge", "arguments": [...], "env": {...}, "folder": "...", "chaos": {...}}`.
It answers with `{"pid": ...}`, and reports every end with `{"ended": pid, "status": returncode}`. When the
other end of the socket goes, all children go too. There are no threads and no event loop in this process,
because a fork copies neither.
"""

import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

MAX_REQUEST = 64 * 1024


def main(descriptor: int) -> None:
    for module in EVERYTHING:
        importlib.import_module(module)
    gc.freeze()  # the children share these pages as long as nobody touches them
    control = socket.socket(fileno=descriptor)
    woken, waker = os.pipe()
    for end in (woken, waker):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the harness, and its end ends this
    children: set[int] = set()
    _tell(control, {"ready": os.getpid()})
    while True:
        readable, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            for pid, status in _ended(children):
                _tell(control, {"ended": pid, "status": status})
        if control.fileno() in readable:
            data, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST, 3)
            if not data:
                break
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for other in (woken, waker, control.detach()):
                    os.close(other)
                _become(json.loads(data), descriptors)
            for other in descriptors:
                os.close(other)
            children.add(pid)
            _tell(control, {"pid": pid})
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _tell(control: socket.socket, message: dict[str, Any]) -> None:
    control.sendall(json.dumps(message).encode() + b"\n")


def _ended(children: set[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            break
        children.discard(pid)
        found.append((pid, os.waitstatus_to_exitcode(status)))
    return found


def _become(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """The child: never returns to the loop above."""
    status = 1
    try:
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["folder"])
        random.seed()
        if request["chaos"]:
            from tests.support.chaos import inject

            inject(request["chaos"])
        status = _run(request["kind"], request["arguments"])
    except BaseException:  # noqa: BLE001 - a child that died of an error shows it and ends
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(kind: str, arguments: list[str]) -> int:
    if kind == "engine":
        from comfy_mcp.embedded.__main__ import main as engine

        engine(arguments)
        return 0
    from comfy_mcp.cli.app import cli

    return _status_of(lambda: cli.main(args=arguments, prog_name="comfy-bridge"))


def _status_of(command: Callable[[], object]) -> int:
    try:
        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


EVERYTHING = (
    "comfy_mcp.cli.servers",
    "comfy_mcp.embedded.__main__",
    "comfy_mcp.runtime",
    "comfy_mcp.server.stdio",
    "http_sidecar.process.serve",
    "tests.support.chaos",
)


if __name__ == "__main__":
    main(int(sys.argv[1]))
