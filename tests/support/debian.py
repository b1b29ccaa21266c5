"""Programs of Debian's packages for tests: the machine's own, or fetched without root.

    program("chromium")                                     -> the path of something that starts
    python tests/support/debian.py chromium prometheus      fetches what is missing, prints the paths

A program on PATH is taken as it is. Otherwise apt-get, which checks signatures and hashes as ever, downloads
the package and what it depends on with folders of its own for lists and archives, and `dpkg -x` unpacks them
into `$COMFY_BRIDGE_CACHE/debian-NAME-HASH` (default `~/.cache/comfy-mcp-bridge/...`):

    bin/NAME    a script that starts the program with the libraries and fonts beside it
    root/       the packages' files; none of their scripts ran

Nothing outside that folder is written, and nothing runs as a service. The packages come from the sources that
apt has configured on this machine; they fit its C library, which is the one thing they share.

Settings, from the environment:
    COMFY_BRIDGE_CACHE    where the folders are kept
    COMFY_BRIDGE_FETCH    1: fetch even what is on PATH

Standard library only: this runs before any environment exists.
"""

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.real_comfyui_install import cache_root, locked, to_stderr

__all__ = ["ToolError", "program"]


class ToolError(RuntimeError):
    """There is no such program here and it cannot be fetched; the message says what to install."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """`programs` maps a name to its file in the package, which may be a pattern; `also` are packages that it
    does not depend on."""

    name: str
    programs: Mapping[str, str]
    also: tuple[str, ...] = ()


PACKAGES = (
    Package(
        name="chromium",
        programs={"chromium": "usr/lib/chromium/chromium"},
        also=("fontconfig-config", "fonts-dejavu-core"),
    ),
    Package(
        name="prometheus",
        programs={"prometheus": "usr/bin/prometheus", "promtool": "usr/bin/promtool"},
    ),
    Package(
        name="postgresql",
        programs={name: f"usr/lib/postgresql/*/bin/{name}" for name in ("initdb", "postgres")},
    ),
)

SHARED = re.compile(r"^Package: (libc6|libgcc-s1|libcrypt1|gcc-\d+-base)$", re.MULTILINE)
"""Packages that are the machine's own: the C library goes with the loader that /lib has."""

NO_SCRIPTS = ("adduser", "debconf", "dpkg", "init-system-helpers")
NO_SCREEN = ("x11-utils", "xdg-utils", "xdg-desktop-portal-backend")
DONE_WITHOUT = (*NO_SCRIPTS, *NO_SCREEN)
"""What only installation scripts and desktops use: 90 MB of downloads with what they need."""

STAND_IN = """\
Package: {name}
Status: install ok installed
Architecture: all
Multi-Arch: foreign
Version: 9999
Maintainer: none
Description: done without
"""

# Hooks are for system-wide installations: they tell daemons, or empty caches that are not ours.
APT_CONFIGURATION = """\
Dir::State "{apt}/state";
Dir::State::status "{apt}/status";
Dir::Cache "{apt}/cache";
Dir::Log "{apt}/log";
APT::Sandbox::User "";
APT::Install-Recommends "false";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
"""

LIBRARIES = ("usr/lib/*-linux-*", "lib/*-linux-*", "usr/lib/*-linux-*/pulseaudio")
FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">root/usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
  <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>system-ui</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>serif</family><prefer><family>DejaVu Serif</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
"""
STARTER = """\
#!/bin/sh
# Written by comfy-mcp-bridge's tests/support/debian.py.
here=$(dirname "$(dirname "$(readlink -f "$0")")")
export FONTCONFIG_FILE="$here/fonts.conf"
export LD_LIBRARY_PATH={libraries}
exec "$here"/root/{file} "$@"
"""

UPDATE_LIMIT_S = 120.0
DOWNLOAD_LIMIT_S = 600.0
UNPACK_LIMIT_S = 120.0
START_LIMIT_S = 60.0


def program(name: str) -> Path:
    """Where `name` is, fetched if need be; a second process waits for the first. Raises ToolError."""
    package = _package_of(name)
    if os.environ.get("COMFY_BRIDGE_FETCH") != "1" and (found := shutil.which(name)):
        return Path(found)
    home = cache_root() / f"debian-{package.name}-{_recipe(package)}"
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        with locked(home.with_name(f"{home.name}.lock"), to_stderr):
            if not home.exists():
                _install(package, home)
    return home / "bin" / name


def _package_of(name: str) -> Package:
    for package in PACKAGES:
        if name in package.programs:
            return package
    raise ToolError(f"No package for {name!r} is known. Next: add it to PACKAGES in {Path(__file__).name}.")


def _recipe(package: Package) -> str:
    """Another recipe, or another release of the system, gets another folder."""
    release = Path("/etc/os-release")
    parts = (
        *(json.dumps(asdict(package)), *DONE_WITHOUT, SHARED.pattern, FONTS, STARTER, *LIBRARIES),
        *(os.uname().machine, release.read_text() if release.exists() else ""),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _install(package: Package, home: Path) -> None:
    """Beside its place first: what was interrupted is never taken for whole."""
    for needed in ("apt-get", "dpkg"):
        if shutil.which(needed) is None:
            raise ToolError(
                f"{' and '.join(package.programs)}: not on PATH, and there is no {needed} to fetch it with. "
                f"Next: install {package.name} the way this system does, so that it is on PATH."
            )
    to_stderr(f"Fetching Debian's {package.name} into {home}")
    unfinished = f"{home.name}-unfinished-"
    for left in home.parent.glob(f"{unfinished}*"):  # of a process that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=unfinished) as aside:
        folder = Path(aside)
        _download(package, folder / "apt")
        new = folder / "new"
        new.mkdir()
        for archive in sorted((folder / "apt" / "cache" / "archives").glob("*.deb")):
            _run(["dpkg", "-x", str(archive), str(new / "root")], UNPACK_LIMIT_S, package)
        (new / "fonts.conf").write_text(FONTS)
        for name, file in package.programs.items():
            _write_starter(new, name, file, package)
        new.rename(home)


def _download(package: Package, apt: Path) -> None:
    for name in ("state/lists/partial", "cache/archives/partial", "log"):
        (apt / name).mkdir(parents=True)
    (apt / "status").write_text(_status())
    configuration = apt / "apt.conf"
    configuration.write_text(APT_CONFIGURATION.format(apt=apt))
    command = ["apt-get", "-q", "-y", "-c", str(configuration)]
    # A source that does not answer need not be the one that is needed: the download tells.
    updated = _run([*command, "update"], UPDATE_LIMIT_S, package, may_fail=True)
    wanted = [package.name, *package.also]
    _run([*command, "install", "--download-only", *wanted], DOWNLOAD_LIMIT_S, package, before=updated)


def _status() -> str:
    """What apt is told is installed: little, so that what is fetched does not depend on what else is."""
    system = Path("/var/lib/dpkg/status").read_text(encoding="utf-8", errors="replace")
    shared = [f"{entry}\n" for entry in system.split("\n\n") if SHARED.search(entry)]
    return "\n".join([*shared, *(STAND_IN.format(name=name) for name in DONE_WITHOUT)])


def _write_starter(new: Path, name: str, file: str, package: Package) -> None:
    if not (found := sorted((new / "root").glob(file))):
        raise ToolError(
            f"This system's package {package.name} has no {file}. "
            f"Next: install {name} in another way, so that it is on PATH."
        )
    folders = [each.relative_to(new) for pattern in LIBRARIES for each in (new / "root").glob(pattern)]
    libraries = ":".join(f'"$here"/{folder}' for folder in folders)
    starter = new / "bin" / name
    starter.parent.mkdir(exist_ok=True)
    file = str(found[-1].relative_to(new / "root"))
    starter.write_text(STARTER.format(libraries=libraries, file=shlex.quote(file)))
    starter.chmod(0o755)
    _run([str(starter), "--version"], START_LIMIT_S, package)


def _run(
    command: Sequence[str], limit_s: float, package: Package, *, before: str = "", may_fail: bool = False
) -> str:
    """What it printed; its last lines, after `before`'s, come with the ToolError."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit_s,
            env=os.environ | {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        )
        status, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired:
        status, output = 124, f"{command[0]} did not end within {limit_s:g} s"
    if status and not may_fail:
        tail = "\n".join([*before.splitlines()[-10:], *output.splitlines()[-15:]])
        raise ToolError(
            f"{tail}\n{command[0]} failed with {status}: there is no {package.name}. Next: see that apt-get "
            f"reaches Debian's packages and run this again, or install {package.name}, so that it is on PATH."
        )
    return output


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fetches programs for tests and prints where they are.")
    parser.add_argument("programs", nargs="+", metavar="PROGRAM")
    try:
        for name in parser.parse_args(arguments).programs:
            print(program(name))
    except ToolError as problem:
        to_stderr(str(problem))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
