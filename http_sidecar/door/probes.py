"""Which paths are open without a key, and which are never counted."""

PROBES = frozenset({"/health", "/ready", "/livez", "/readyz"})
METRICS = "/metrics"
_PAGES = frozenset({"/", "/docs"})
OPEN = PROBES | _PAGES | {"/openapi.json"}
_PAGE_FILES = ("/docs/", "/page/")
OPEN_UNDER = (*_PAGE_FILES, "/.well-known/")
"""The pages' own files, and where MCP clients look for authorization servers (there are none)."""


def is_probe(path: str) -> bool:
    """Asked by machines all the time: not counted by the rate limit, and logged at debug."""
    return path in PROBES or path == METRICS


def is_page(path: str) -> bool:
    """A page is two dozen files: counted as requests, they lock out a person who opens it a few times. And
    the page itself is there for a person whose scripts have used up their requests."""
    return path in _PAGES or path.startswith(_PAGE_FILES)


def is_open(path: str, *, metrics: bool) -> bool:
    return path in OPEN or path.startswith(OPEN_UNDER) or (metrics and path == METRICS)
