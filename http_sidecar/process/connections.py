"""How many connections may be open, of all clients and of one address.

The bound lies well under the process's limit of open files: the store, the engines and files that are sent
need descriptors too, and a process without any can neither answer nor work.
"""

from collections.abc import Collection
from typing import Protocol, Self

import structlog

from comfy_mcp.logs import Repeats
from http_sidecar.door.addresses import Network, bucket_of, is_in

log = structlog.get_logger(__name__)

WANTED_FILES = 65_536
"""The limit of open files that is asked for at the start; the hard limit may be lower."""

MOST = 8_192
"""Connections of all clients, however many files may be open: twice the streams; idle, some 200 MB."""

UNKNOWN_FILES = 1_024
"""The limit of open files where the system does not say it."""


class Connection(Protocol):
    def force_close(self) -> None: ...


def raise_file_limit() -> int:
    """Raise the soft limit of open files as far as wanted and allowed; returns what it is then."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows
        return UNKNOWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = WANTED_FILES if hard == unlimited else min(WANTED_FILES, hard)
    if soft == unlimited or soft >= wanted:
        return WANTED_FILES if soft == unlimited else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS has another limit below the hard one
        return soft
    return wanted


class Connections:
    """The open ones. At a bound a new connection takes the place of the one that has been idle for longest;
    where none is idle, the new one is refused."""

    def __init__(self, *, most: int, most_per_address: int, proxies: Collection[Network] = ()) -> None:
        """`proxies` are not bounded by address: all clients behind one share its address."""
        self._most = most
        self._most_per_address = most_per_address
        self._proxies = proxies
        self._bucket: dict[Connection, str] = {}
        self._counts: dict[str, int] = {}
        self._idle: dict[str, dict[Connection, None]] = {}
        self._all_idle: dict[Connection, None] = {}
        self._told = Repeats(log, "connections_at_the_bound")

    @classmethod
    def within(cls, file_limit: int, proxies: Collection[Network] = ()) -> Self:
        most = max(1, min(file_limit // 2, MOST))
        return cls(most=most, most_per_address=max(1, most // 2), proxies=proxies)

    def __len__(self) -> int:
        return len(self._bucket)

    def opened(self, connection: Connection, address: str) -> bool:
        """Whether there is room for it; another one may be closed for it."""
        bucket = bucket_of(address)
        by_address = self._counts.get(bucket, 0) >= self._most_per_address and not is_in(
            address, self._proxies
        )
        if by_address or len(self._bucket) >= self._most:
            idle = self._idle.get(bucket, {}) if by_address else self._all_idle
            oldest = next(iter(idle), None)
            self._told.happened(
                open=len(self._bucket), of="one address" if by_address else "all", refused=oldest is None
            )
            if oldest is None:
                return False
            self.closed(oldest)
            oldest.force_close()
        self._bucket[connection] = bucket
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.idle(connection)
        return True

    def busy(self, connection: Connection) -> None:
        """It has sent a request."""
        if (bucket := self._bucket.get(connection)) is None:
            return
        if self._all_idle.pop(connection, ...) is None:
            own = self._idle[bucket]
            del own[connection]
            if not own:
                del self._idle[bucket]

    def idle(self, connection: Connection) -> None:
        """It has no request, or its request has been answered."""
        if (bucket := self._bucket.get(connection)) is not None:
            self._all_idle[connection] = None
            self._idle.setdefault(bucket, {})[connection] = None

    def closed(self, connection: Connection) -> None:
        self.busy(connection)
        if (bucket := self._bucket.pop(connection, None)) is not None:
            self._counts[bucket] -= 1
            if not self._counts[bucket]:
                del self._counts[bucket]
