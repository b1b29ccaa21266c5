"""What tests fetch from an index once, and keep in the cache."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support.real_comfyui_install import cache_root, locked


def made_once(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """NAME-KEY in the cache, which `make` fills beside its place first, so that what was interrupted is never
    used. One process at a time."""
    root = cache_root()
    home = root / f"{name}-{key}"
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / f"{name}.lock", print):
        if not home.exists():
            with tempfile.TemporaryDirectory(dir=root, prefix=f"{name}-") as folder:
                make(Path(folder))
                Path(folder).rename(home)
                Path(folder).mkdir()  # for TemporaryDirectory to remove
    return home
