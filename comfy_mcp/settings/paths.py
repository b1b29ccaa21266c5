"""Paths in settings."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4


def expanded(path: str | Path) -> Path:
    """With ~ as the home folder: no shell expands it in an MCP client's or a compose file's env."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - never raises


def write_whole(path: Path, text: str, *, new_mode: int | None = None) -> None:
    """Whole or not at all. A file that is there keeps its mode; `new_mode` is that of a new one (default: as
    the process makes files). Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else new_mode
    aside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(aside, flags, 0o666 if new_mode is None else new_mode)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        if mode is not None:
            aside.chmod(mode)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Among all processes one is inside, for what reads a file of the folder and writes it anew. Where the
    file system has no such lock, or the folder is not there, there is none."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
