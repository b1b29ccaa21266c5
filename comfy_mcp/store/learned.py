"""What the bridge learns and would lose nothing by forgetting: node durations, file hashes."""

from collections.abc import Collection, Mapping, Sequence

from comfy_mcp.store.codec import storable
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.core import bindparam, delete, file_hashes, insert, node_durations, select

MEMORY = 20
"""From the 20th observation on each new one weighs 1/20: a moving mean that follows a changed machine."""

_d, _h = node_durations.c, file_hashes.c
_KNOWN = Statement(
    select(_d.class_type, _d.count.label("count_"), _d.mean_ms).where(
        _d.class_type.in_(bindparam("names", expanding=True))
    )
)
_HASH = Statement(
    select(_h.sha256).where(
        _h.path == bindparam("b_path"), _h.size == bindparam("b_size"), _h.mtime_ns == bindparam("b_mtime_ns")
    )
)
_PUT = Statement(insert(node_durations), "(class_type) DO UPDATE SET {new}")
_PUT_HASH = Statement(insert(file_hashes))
_FORGET = Statement(delete(file_hashes).where(_h.path == bindparam("b_path")))


def durations(connection: Connection, class_types: Collection[str]) -> dict[str, float]:
    """Mean milliseconds of those that are known."""
    names = [storable(name) for name in class_types]
    rows = connection.execute(_KNOWN, {"names": names})
    return {row.class_type: row.mean_ms for row in rows}


def observe(connection: Connection, observed: Mapping[str, Sequence[float]]) -> None:
    wanted = {storable(name) or "": values for name, values in observed.items() if values}
    known = {
        row.class_type: (row.count_, row.mean_ms)
        for row in connection.execute(_KNOWN, {"names": list(wanted)})
    }
    for name, values in wanted.items():
        count, mean = known.get(name, (0, 0.0))
        for value in values:
            count += 1
            mean += (value - mean) / min(count, MEMORY)
        connection.send(_PUT, {"class_type": name, "count": count, "mean_ms": mean})


def file_hash(connection: Connection, path: str, size: int, mtime_ns: int) -> str | None:
    values = {"b_path": storable(path), "b_size": size, "b_mtime_ns": mtime_ns}
    found: str | None = connection.execute(_HASH, values).scalar()
    return found


def put_file_hash(connection: Connection, path: str, size: int, mtime_ns: int, sha256: str) -> None:
    """One hash per path: the file's last state."""
    connection.execute(_FORGET, {"b_path": storable(path)})
    connection.execute(
        _PUT_HASH,
        {"path": storable(path), "size": size, "mtime_ns": mtime_ns, "sha256": sha256},
    )
