"""A Python that has already imported the product: its processes start in milliseconds instead of a second.

`subprocess.Popen([WARM_PYTHON, "-m", "comfy_mcp", "mcp"])`, and all that is built on Popen: asyncio, anyio,
the MCP SDK's client. It takes `-m MODULE` or a script. A fork server starts the process (fork_server.py; each
process that runs tests has one). Then it is a child of this process like any other.

What it can't show: how long imports take and what they load, the console script, and what the interpreter
itself reads (options and PYTHON… variables). Tests of these start `sys.executable`. Where a LD_… variable
has changed, which the dynamic loader reads once, a fresh interpreter starts by itself.
"""

import atexit
import ctypes
import functools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
WARM_PYTHON = "warm python" if sys.platform == "linux" else sys.executable
ANSWER_LIMIT_S = 60.0
PR_SET_CHILD_SUBREAPER = 36

_turn = threading.Lock()
_fork_exec: Any = subprocess.__dict__["_fork_exec"]


def _for_the_loader(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name.startswith("LD_")}


def _without_the_loader_s(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if not name.startswith("LD_")}


_OWN_LOADER = _for_the_loader(os.environ)


@functools.cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(ANSWER_LIMIT_S)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            cwd=REPOSITORY,
            env=_without_the_loader_s(os.environ) | _OWN_LOADER,  # a test may have set others meanwhile
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _fork(request: dict[str, Any], descriptors: Sequence[int]) -> int:
    """The pid of a new child of this process."""
    with _turn:
        server = _server()
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            socket.send_fds(server, [json.dumps(request).encode()], descriptors)
            pid = int(server.recv(64))
            server.recv(64)
        finally:
            prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    return pid


def _start(args: Sequence[Any], *more: Any) -> int:
    """In place of `_posixsubprocess.fork_exec`, the one function by which Popen starts a process."""
    if args[0] != WARM_PYTHON:
        return int(_fork_exec(args, *more))
    _, _, _, cwd, env, stdin, _, _, stdout, _, stderr, _, _, _, new_session, *_ = more
    given = [os.fsdecode(each) for each in env] if env is not None else None
    variables = dict(os.environ) if given is None else dict(each.split("=", 1) for each in given)
    if _for_the_loader(variables) != _OWN_LOADER:
        return int(_fork_exec([sys.executable, *args[1:]], (os.fsencode(sys.executable),), *more[1:]))
    request = {
        "arguments": [os.fsdecode(each) for each in args[1:]],
        "env": variables,
        "cwd": str(Path.cwd()) if cwd is None else os.fsdecode(cwd),
        "new_session": bool(new_session),
    }
    descriptors = [each if each != -1 else own for own, each in enumerate((stdin, stdout, stderr))]
    return _fork(request, descriptors)


if sys.platform == "linux":
    subprocess.__dict__["_fork_exec"] = _start
