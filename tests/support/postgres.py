"""A PostgreSQL server for tests: Debian's programs, a folder of its own, a socket and no port.

    shared().database()                        -> the URL of a new and empty store, on this process's server
    with server() as postgres:                 one that a test may stop and start
    python -m tests.support.postgres           starts one, prints a URL, and stops it when its input ends

The server refuses to run as root. There it runs as nobody, on links to its programs in a folder that nobody
can reach: the cache is in root's home. It ends with the process that started it, however that ends.
"""

import atexit
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any
from urllib.parse import quote

import psycopg

from tests.support.debian import program

NOBODY = 65534
START_S = 60.0

# It ends when this end of the pipe is closed.
KEEPER = 'exec 3<&0; "$@" </dev/null 3<&- & pid=$!; (read -r _ <&3; kill -INT $pid) & wait $pid; kill $!'

# For tests: a kill of the server loses nothing that the system has, and no machine fails here.
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "jit": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "unix_socket_permissions": "0777",
    "log_min_messages": "warning",
}


class Server:
    """`folder` is private to it and goes with it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self._settings = SETTINGS | settings
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = (
            {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        )
        folder.chmod(0o755)
        self._bin = _reachable(folder) if self._as else program("postgres").parent
        self._data = folder / "data"
        self._data.mkdir()
        if self._as:
            os.chown(self._data, NOBODY, NOBODY)
        self._run(
            "initdb", "--auth=trust", "--username=bridge", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"
        )

    def url(self, database: str = "postgres", **options: str) -> str:
        query = "&".join(
            f"{name}={quote(value)}" for name, value in {"host": str(self._data), **options}.items()
        )
        return f"postgresql://bridge@/{database}?{query}"

    @property
    def socket(self) -> Path:
        return self._data / ".s.PGSQL.5432"

    def database(self) -> str:
        """The URL of a new one: a schema, which takes a tenth of a database's time."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE SCHEMA "{name}"')
        return self.url(options=f"-csearch_path={name}")

    def start(self) -> None:
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-k", str(self._data)]
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", KEEPER, "sh", *command, *options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=_environment(),
                **self._as,
            )
        deadline = monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start:\n{self.log()[-2000:]}") from None
                Event().wait(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends every connection at once; SIGQUIT is a crash. One that stands still goes on, to end."""
        if self._process is not None:
            os.kill(int((self._data / "postmaster.pid").read_text().split()[0]), how)
            self.go_on()
            self._process.wait(START_S)
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None

    def stand_still(self) -> None:
        """None of its processes does anything, until `go_on`. Nothing while it is down."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, IndexError):  # it ends, or begins
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def pids(self) -> list[int]:
        """The first process and its children. Raises FileNotFoundError while it is down."""
        first = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / name), "-D", str(self._data), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=_environment(),
            timeout=START_S,
            **self._as,
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed with {done.returncode}: {done.stdout}{done.stderr}")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {
        "LC_ALL": "C.UTF-8"
    }


def _reachable(folder: Path) -> Path:
    """The programs with their libraries, as links (or copies, on another disk) below `folder`."""
    home = program("postgres").parents[1]
    new = folder / "programs"

    def linked(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    shutil.copytree(
        home,
        new,
        symlinks=True,
        copy_function=linked,
        ignore=shutil.ignore_patterns("libLLVM*", "perl*", "doc", "locale", "man", "bitcode"),
    )
    return new / "bin"


@contextlib.contextmanager
def server(**settings: str) -> Iterator[Server]:
    """One that runs for the time of the context."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        started = Server(Path(folder), **settings)
        try:
            started.start()
            yield started
        finally:
            started.stop()


@cache
def shared() -> Server:
    """The server of this process, for whoever only needs a database."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(server())


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), server() as started:
        print(started.database(), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
