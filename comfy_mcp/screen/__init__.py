"""What people look at: framework-free pieces of the page and of the MCP App, as text.

`elements.js` is an ES module without imports that builds and updates the DOM of jobs and outputs;
`screen.css` is their look, light and dark. Neither knows where its data comes from.
"""

from pathlib import Path

_ASSETS = Path(__file__).parent / "assets"
NAMES = frozenset(path.name for path in _ASSETS.iterdir())


def asset(name: str) -> str:
    """The text of one of NAMES. Raises KeyError."""
    if name not in NAMES:
        raise KeyError(name)
    return (_ASSETS / name).read_text(encoding="utf-8")
