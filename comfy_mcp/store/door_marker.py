"""A file beside the store that says: whoever serves this folder over HTTP asks for a key.

Keys are in the store, and a store can be lost: damaged, emptied, deleted. The marker outlives it, so
that losing the keys never opens the door. Blocking, for microseconds.
"""

from pathlib import Path

from comfy_mcp.store.sqlite.faults import translated

TEXT = (
    "API keys were in use here. While this file exists, comfy-bridge serves no HTTP without a key.\n"
    "Make a new key with `comfy-bridge keys add NAME`, or delete this file to serve without keys.\n"
)


def marker_of(store: Path) -> Path:
    return store.with_name(f"{store.name}.keys-required")


def is_set(store: Path) -> bool:
    return marker_of(store).exists()


def put(store: Path) -> None:
    """Raises StoreFault."""
    with translated(store):
        marker = marker_of(store)
        marker.touch(mode=0o600)
        marker.write_text(TEXT, encoding="utf-8")
