from pathlib import Path

import pytest

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.store.sqlite.filesystem import opening_lock, refuse_network

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:50 / /home/share rw,relatime shared:2 - nfs4 server:/export rw,vers=4.2
41 22 0:51 / /home/with\\040space rw shared:3 - cifs //server/x rw
42 40 8:2 / /home/share/local rw shared:4 - xfs /dev/sdb1 rw
43 22 0:52 / /remote rw shared:5 - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/share/state/bridge.sqlite3", "nfs4"),
        ("/home/with space/bridge.sqlite3", "cifs"),
        ("/remote/bridge.sqlite3", "fuse.sshfs"),
    ],
)
def test_a_network_file_system_is_refused(path: str, kind: str) -> None:
    with pytest.raises(StoreFault, match=kind) as caught:
        refuse_network(Path(path), MOUNTS)
    assert "local disk" in caught.value.next_step


@pytest.mark.parametrize(
    "path", ["/home/shared/x", "/home/share/local/x", "/var/lib/x", "/home/with/x", "/remote2/x"]
)
def test_a_local_file_system_is_not_refused(path: str) -> None:
    assert refuse_network(Path(path), MOUNTS) is None  # type: ignore[func-returns-value]


def test_unreadable_mounts_refuse_nothing() -> None:
    assert refuse_network(Path("/anything"), "no such format\n") is None  # type: ignore[func-returns-value]


def test_the_opening_lock_has_a_timeout(tmp_path: Path) -> None:
    path = tmp_path / "bridge.sqlite3"
    with opening_lock(path, 1.0), pytest.raises(StoreFault, match="creating"), opening_lock(path, 0.0):
        raise AssertionError("two hold the lock")
    with opening_lock(path, 0.0):
        assert path.with_name("bridge.sqlite3.lock").exists()
