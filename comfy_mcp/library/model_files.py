"""Model files on disk: which folder holds which type, what counts as a model, how to hash one. All block."""

import hashlib
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import structlog

from comfy_mcp.domain.catalog import MODEL_SUFFIXES, V1_MODEL_FOLDERS

log = structlog.get_logger(__name__)

# ComfyUI reads these folders too and shows their files under the other name (folder_paths.py).
_SAME_AS: Mapping[str, str] = {
    "clip": "text_encoders",
    "unet": "diffusion_models",
    "t2i_adapter": "controlnet",
}
_NO_MODELS = frozenset({"configs", "custom_nodes"})  # ComfyUI's /experiment/models leaves them out too
_TYPE_BY_FOLDER: Mapping[str, str] = {folder: kind for kind, folder in V1_MODEL_FOLDERS.items()}
_MAX_FOLDERS = 20_000
_MAX_FILES = 200_000
_HASH_BLOCK = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKey:
    """The key of a hash: other content under the same path has another size or mtime."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """`name` is the value for a loader node: the path below the type's folder, with forward slashes."""

    type: str
    name: str
    key: FileKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """`types` includes those of empty folders; `files` is sorted by (type, name).

    `whole` says that the models folder itself is there, so that types without a folder have no models.
    """

    whole: bool
    types: frozenset[str]
    files: tuple[ModelFile, ...]


def type_of_folder(folder: str) -> str | None:
    """The type whose files ComfyUI keeps in `folder`; None for folders that hold no models."""
    if folder in _NO_MODELS or folder.startswith("."):
        return None
    canonical = _SAME_AS.get(folder, folder)
    return _TYPE_BY_FOLDER.get(canonical, canonical)


def folder_of_type(kind: str) -> str:
    """ComfyUI's folder for a type; a folder's own name is accepted too (`upscale_models`, `unet`)."""
    return V1_MODEL_FOLDERS.get(kind, _SAME_AS.get(kind, kind))


def scan_models(models_dir: Path | None, folders: Mapping[str, Path]) -> Scan:
    """Everything there is now. A folder that can't be read counts as empty, and is logged."""
    roots = _model_roots(models_dir, folders)
    files = (file for kind, root in roots for file in _files_of(kind, root))
    found: dict[tuple[str, str], ModelFile] = {}
    for file in islice(files, _MAX_FILES):
        found.setdefault((file.type, file.name), file)
    if next(files, None) is not None:
        log.warning("model_scan_cut_short", files=_MAX_FILES)
    return Scan(
        whole=models_dir is not None and models_dir.is_dir(),
        types=frozenset(kind for kind, _ in roots),
        files=tuple(found[place] for place in sorted(found)),
    )


def hash_file(key: FileKey, stop: threading.Event) -> str | None:
    """The sha256 in hex; None if the file is no longer the one that `key` names, or `stop` was set.

    Raises OSError.
    """
    digest = hashlib.sha256()
    with Path(key.path).open("rb") as stream:
        before = os.fstat(stream.fileno())
        while block := stream.read(_HASH_BLOCK):
            if stop.is_set():
                return None
            digest.update(block)
        after = os.fstat(stream.fileno())
    unchanged = all((each.st_size, each.st_mtime_ns) == (key.size, key.mtime_ns) for each in (before, after))
    return digest.hexdigest() if unchanged else None


def _model_roots(models_dir: Path | None, folders: Mapping[str, Path]) -> list[tuple[str, Path]]:
    """(type, folder) pairs. A folder configured for a type takes the place of those in `models_dir`."""
    roots = [(kind, folder) for kind, folder in folders.items() if folder.is_dir()]
    if models_dir is not None:
        try:
            inside = sorted(entry.name for entry in os.scandir(models_dir) if entry.is_dir())
        except OSError:
            inside = []
        found = [(type_of_folder(name), models_dir / name) for name in inside]
        roots += [(kind, path) for kind, path in found if kind is not None and kind not in folders]
    return roots


def _files_of(kind: str, root: Path) -> Iterator[ModelFile]:
    for name, path, status in _walk(root):
        key = FileKey(path=path, size=status.st_size, mtime_ns=status.st_mtime_ns)
        yield ModelFile(type=kind, name=name, key=key)


def _walk(root: Path) -> Iterator[tuple[str, str, os.stat_result]]:
    """(name, path, stat) of every model file below `root`, links followed, no folder inside itself."""
    todo: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(str(root), "", frozenset())]
    for _ in range(_MAX_FOLDERS):
        if not todo:
            return
        folder, prefix, ancestors = todo.pop()
        identity, entries = _listing(folder)
        if identity in ancestors:
            continue
        for entry in entries:
            status = _status(entry)
            if status is None:
                continue
            if stat.S_ISDIR(status.st_mode) and entry.name != ".git":
                todo.append((entry.path, f"{prefix}{entry.name}/", ancestors | {identity}))
            elif stat.S_ISREG(status.st_mode) and Path(entry.name).suffix.lower() in MODEL_SUFFIXES:
                yield prefix + entry.name, entry.path, status
    log.warning("model_scan_cut_short", folder=str(root), folders=_MAX_FOLDERS)


def _listing(folder: str) -> tuple[tuple[int, int], list[os.DirEntry[str]]]:
    """The folder's identity and its entries in order; no entries where it can't be read."""
    identity = (0, 0)
    try:
        here = os.stat(folder)  # noqa: PTH116 - strings and scandir: a tenth of the time of Path objects
        identity = (here.st_dev, here.st_ino)
        with os.scandir(folder) as listing:
            return identity, sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        log.warning("model_folder_unreadable", folder=folder, cause=type(error).__name__)
        return identity, []


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None for a broken link, and for a name that is not Unicode (no client could send it)."""
    try:
        entry.name.encode()
        return entry.stat()
    except (OSError, UnicodeEncodeError):
        return None
