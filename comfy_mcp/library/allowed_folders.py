"""Files of this machine that a caller names by path: only those in the allowed folders."""

import os
from collections.abc import Sequence
from pathlib import Path

from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.library.path_guard import NotRegular, OpenFile, OutsideRoots, open_inside, resolve_inside

ROOTS_SETTING = "COMFY_BRIDGE_WORKFLOW_ROOTS"


class AllowedFolders:
    """A relative path is looked for under each folder in turn. All of it blocks: use a thread."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots) or (_here(),)

    @property
    def roots(self) -> tuple[Path, ...]:
        return self._roots

    def named(self) -> str:
        """For a sentence."""
        return ", ".join(str(root) for root in self._roots)

    def open(self, path: str, what: str, advice: str) -> OpenFile:
        """The file at `path`. `what` and `advice` are for the errors: "workflow file", "send it inline".

        Raises InvalidInput (path_not_allowed, path_unreadable). The error does not say whether a path outside
        exists.
        """
        try:
            return open_inside(self._locate(path), self._roots)
        except OutsideRoots:
            raise self._not_allowed(path, f"Move the {what} there, {advice}") from None
        except NotRegular:
            raise unreadable(path, what, advice, "it is not a regular file") from None
        except OSError as error:
            raise unreadable(path, what, advice, error.strerror or type(error).__name__) from None

    def has(self, path: str) -> bool:
        """Whether there is something at `path`, inside."""
        return _is_there(self._locate(path), self._roots)

    def inside(self, path: str) -> Path:
        """The absolute path of a folder that need not exist. Raises InvalidInput (path_not_allowed)."""
        wanted = self._expanded(path)
        try:
            return resolve_inside(wanted if wanted.is_absolute() else self._roots[0] / wanted, self._roots)
        except OutsideRoots:
            raise self._not_allowed(path, "Choose a folder in one of them") from None

    def _locate(self, path: str) -> Path:
        wanted = self._expanded(path)
        if wanted.is_absolute():
            return wanted
        candidates = [root / wanted for root in self._roots]
        return next((each for each in candidates if _is_there(each, self._roots)), candidates[0])

    def _expanded(self, path: str) -> Path:
        try:
            return Path(path).expanduser()
        except RuntimeError:  # ~someone who does not exist
            return Path(path)

    def _not_allowed(self, path: str, advice: str) -> InvalidInput:
        fault = "has a NUL character, so it is no path in" if "\0" in path else "is outside"
        return InvalidInput(
            f"{shown(path)} {fault} the allowed folders: {self.named()}.",
            next_step=f"{advice}, or add its folder to {ROOTS_SETTING}.",
            code=ErrorCode.PATH_NOT_ALLOWED,
            details={"roots": [str(root) for root in self._roots], "setting": ROOTS_SETTING},
        )


def _here() -> Path:
    """The folder that the process was started in. Where that has been deleted: nothing is inside."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path(os.devnull)


def unreadable(path: str, what: str, advice: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"The {what} {shown(path)} can't be read: {why}.",
        next_step=f"Check the path, or {advice}.",
        code=ErrorCode.PATH_UNREADABLE,
    )


def shown(path: str) -> str:
    return repr(path if len(path) <= 200 else f"{path[:199]}…")


def _is_there(path: Path, roots: Sequence[Path]) -> bool:
    try:
        return resolve_inside(path, roots).exists()
    except (OutsideRoots, OSError, ValueError):
        return False
