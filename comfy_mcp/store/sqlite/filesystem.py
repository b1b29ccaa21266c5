"""The store's place on disk: private, local, and never overwritten when damaged."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from comfy_mcp.domain.errors import StoreFault

SIDE_FILES = ("-wal", "-shm", "-journal")

_NETWORK = frozenset(
    {"afs", "beegfs", "ceph", "cifs", "davfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
    | {
        f"fuse.{name}"
        for name in ("ceph", "davfs2", "gcsfuse", "glusterfs", "juicefs", "rclone", "s3fs", "sshfs")
    }
)


def prepare_folder(path: Path) -> None:
    """Make the folder of `path` with mode 0700 if it isn't there. One that exists is left as it is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def prepare_file(path: Path) -> None:
    """Make `path` an empty file of mode 0600 if it isn't there; take rights of others from one that is.

    SQLite gives -wal, -shm and -journal the mode of the file they belong to.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def refuse_network(path: Path, mounts: str | None = None) -> None:
    """Raises StoreFault if `path` is on a network file system, where SQLite's locks can't be trusted.

    Linux only (/proc/self/mountinfo, proc(5)); elsewhere nothing is known and nothing is refused.
    `mounts` stands for that file in tests.
    """
    if mounts is None:
        if not sys.platform.startswith("linux"):
            return
        mounts = _read_mounts()
    kind = _file_system_of(os.path.realpath(path), mounts)
    if kind in _NETWORK:
        raise StoreFault(
            f"The store at {path} is on a network file system ({kind}), which can damage it.",
            next_step="Set COMFY_BRIDGE_STATE_DIR to a folder on a local disk.",
        )


def set_aside(path: Path) -> Path:
    """Rename the store and its side files to `….corrupt-<UTC time>` and return the new name."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.corrupt-{stamp}-{number}")
    # The side files first: a fresh store must never meet the old one's log.
    for suffix in SIDE_FILES:
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.rename(target.with_name(target.name + suffix))
    path.rename(target)
    return target


@contextlib.contextmanager
def opening_lock(path: Path, timeout_s: float) -> Iterator[None]:
    """One process at a time creates, migrates or sets aside the store at `path`.

    Without it two processes that find the same damage would set aside each other's fresh store. A lock of
    the operating system on a file beside it: gone with its process. Where there is no flock, no lock.
    Raises StoreFault after `timeout_s`.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows
        yield
        return
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StoreFault(
                        f"Another process has been creating the store at {path} for too long.",
                        next_step="Try again. If it happens again, find the process that has it open.",
                    ) from None
                threading.Event().wait(0.01)  # in the opening thread, never on the loop
        yield
    finally:
        os.close(descriptor)


def _read_mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _file_system_of(real_path: str, mounts: str) -> str | None:
    """The type of the mount that holds `real_path`: the longest mount point above it, the last on a tie."""
    best, kind = "", None
    for line in mounts.splitlines():
        left, separator, right = line.partition(" - ")
        fields = left.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        inside = point == "/" or real_path == point or real_path.startswith(point + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split(" ", 1)[0]
    return kind
