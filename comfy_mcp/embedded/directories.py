"""The engine's folders: where names from clients become paths, and where they may not."""

from __future__ import annotations

import hashlib
import posixpath
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

KINDS = ("output", "input", "temp")
_ANNOTATED = re.compile(r"^(?P<name>.*?) ?\[(?P<kind>output|input|temp)\]$")


class OutsideDirectory(Exception):
    """A name leads out of the folder that it belongs to."""


@dataclass(frozen=True, slots=True)
class SaveTarget:
    """Where the next numbered file goes."""

    folder: Path
    subfolder: str
    stem: str
    counter: int

    def filename(self, extension: str, offset: int = 0) -> str:
        return f"{self.stem}_{self.counter + offset:05}_.{extension}"


@dataclass(frozen=True, slots=True)
class Directories:
    base: Path

    def create(self) -> None:
        for kind in (*KINDS, "models"):
            (self.base / kind).mkdir(parents=True, exist_ok=True)

    @property
    def models(self) -> Path:
        return self.base / "models"

    def of(self, kind: str) -> Path | None:
        """The folder of a kind, None for an unknown kind."""
        return self.base / kind if kind in KINDS else None

    def inside(self, root: Path, subfolder: str) -> Path:
        """root/subfolder; raises OutsideDirectory when that is not below root."""
        folder = Path(_absolute(root / subfolder))
        if not folder.is_relative_to(_absolute(root)):
            raise OutsideDirectory(subfolder)
        return folder

    def annotated(self, name: str, default: str = "input") -> Path:
        """The path of a name such as `cat.png` or `cat.png [output]`; raises OutsideDirectory."""
        bare, kind = split_annotation(name)
        root = self.base / (kind or default)
        path = Path(_absolute(root / bare))
        if not path.is_relative_to(_absolute(root)):
            raise OutsideDirectory(name)
        return path

    def model_files(self, folder: str) -> list[str]:
        """In a folder of models/, sorted."""
        root = self.models / folder
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())

    def input_files(self) -> list[str]:
        root = self.base / "input"
        return sorted(entry.name for entry in root.iterdir() if entry.is_file()) if root.is_dir() else []

    def save_target(self, kind: str, prefix: str, size: tuple[int, int], now: datetime) -> SaveTarget:
        """Number the next file of a prefix. The prefix may hold a subfolder and %tokens%.

        Raises OutsideDirectory when the prefix leads out of the folder of its kind.
        """
        root = self.base / kind
        path, stem = posixpath.split(posixpath.normpath(_expand(prefix, size, now)))
        folder = self.inside(root, path)
        folder.mkdir(parents=True, exist_ok=True)
        subfolder = folder.relative_to(_absolute(root)).as_posix()
        return SaveTarget(
            folder=folder,
            subfolder="" if subfolder == "." else subfolder,
            stem=stem,
            counter=_next_counter(folder, stem),
        )


def split_annotation(name: str) -> tuple[str, str | None]:
    """`cat.png [temp]` -> (`cat.png`, `temp`); a plain name has no kind."""
    match = _ANNOTATED.match(name)
    return (match["name"], match["kind"]) if match else (name, None)


def content_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _absolute(path: Path) -> Path:
    """Collapse .. and links, so that a comparison of prefixes means what it says."""
    return path.resolve()


def _expand(prefix: str, size: tuple[int, int], now: datetime) -> str:
    tokens = {
        "%width%": str(size[0]),
        "%height%": str(size[1]),
        "%year%": f"{now.year}",
        "%month%": f"{now.month:02}",
        "%day%": f"{now.day:02}",
        "%hour%": f"{now.hour:02}",
        "%minute%": f"{now.minute:02}",
        "%second%": f"{now.second:02}",
    }
    for token, value in tokens.items():
        prefix = prefix.replace(token, value)
    return prefix


def _next_counter(folder: Path, stem: str) -> int:
    """One more than the highest number in use, whatever the extension."""
    pattern = re.compile(re.escape(stem) + r"_(\d+)", re.IGNORECASE)
    numbers = (match[1] for entry in folder.iterdir() if (match := pattern.match(entry.name)))
    return max((int(number) for number in numbers), default=0) + 1
