"""Programs of Debian's packages: the machine's own, or fetched without root into a folder."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import debian

ROOT = Path(__file__).parents[2]
NOBODY = 65534
LIMIT_S = 150
AS_NOBODY = f"""\
import os
from tests.support import debian
if os.getuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
print(debian.program("promtool"))
"""


@pytest.fixture
def folder_of_nobody() -> Iterator[Path]:
    """A folder that an account without any rights may write to; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        if os.getuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def empty_path(monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
    """Only the programs that are named are on PATH; they say that they failed."""
    for name in names:
        (folder / name).write_text('#!/bin/sh\necho "E: no route to the archive"; exit 100\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("COMFY_BRIDGE_CACHE", str(folder / "cache"))


def test_what_is_on_path_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty_path(monkeypatch, tmp_path, "promtool")
    monkeypatch.delenv("COMFY_BRIDGE_FETCH", raising=False)
    assert debian.program("promtool") == tmp_path / "promtool"
    assert not (tmp_path / "cache").exists()


def test_a_program_of_no_known_package_is_an_error() -> None:
    with pytest.raises(debian.ToolError, match="add it to PACKAGES"):
        debian.program("emacs")


def test_a_system_without_apt_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty_path(monkeypatch, tmp_path)
    assert debian.main(["promtool"]) == 1
    assert "no apt-get to fetch it with. Next: install prometheus" in capsys.readouterr().err


def test_packages_that_do_not_come_leave_nothing_and_say_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty_path(monkeypatch, tmp_path, "apt-get", "dpkg")
    with pytest.raises(debian.ToolError, match=r"(?s)no route to the archive.*see that apt-get reaches"):
        debian.program("prometheus")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_without_rights_a_program_is_fetched_and_starts(folder_of_nobody: Path) -> None:
    own = {"COMFY_BRIDGE_CACHE": str(folder_of_nobody / "cache"), "COMFY_BRIDGE_FETCH": "1"}
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder_of_nobody), "PYTHONPATH": str(ROOT)} | own
    fetched = subprocess.run(
        [sys.executable, "-c", AS_NOBODY],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=ROOT,
    )
    if shutil.which("apt-get") is None:
        assert "no apt-get to fetch it with" in fetched.stderr
        return
    assert fetched.returncode == 0, fetched.stderr
    promtool = Path(fetched.stdout.strip())
    assert promtool.is_relative_to(folder_of_nobody)
    assert promtool.stat().st_uid == (NOBODY if os.getuid() == 0 else os.getuid())
    assert [path.name for path in promtool.parent.iterdir()] == ["prometheus", "promtool"]
    shown = subprocess.run([promtool, "--version"], capture_output=True, text=True, timeout=LIMIT_S)
    assert (shown.returncode, (shown.stdout + shown.stderr)[:9]) == (0, "promtool,")


def test_the_fetched_chromium_draws_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the cache already where the machine has none of its own; fetched here, once, where it has.
    Where nothing can be fetched it is the machine's own."""
    monkeypatch.setenv("COMFY_BRIDGE_FETCH", "1" if shutil.which("apt-get") else "0")
    chromium = debian.program("chromium")
    assert (chromium.parent.parent / "root").exists() or shutil.which("apt-get") is None
    drawn = [draw(chromium, tmp_path, text) for text in ("", "mmm", "iii")]
    assert all(picture.startswith(b"\x89PNG") for picture in drawn)
    assert len(set(drawn)) == 3


def draw(chromium: Path, folder: Path, text: str) -> bytes:
    """A page with `text`, as PNG."""
    picture = folder / f"{text}.png"
    command = [
        *(str(chromium), "--headless", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(["--no-sandbox"] if os.getuid() == 0 else []),
        *(f"--user-data-dir={folder / 'profile'}", f"--screenshot={picture}"),
        f"data:text/html,<p style='font-family:sans-serif'>{text}",
    ]
    own = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=LIMIT_S)
    assert picture.exists(), done.stderr
    return picture.read_bytes()
