"""One HTML document from modules and style sheets: for a viewer that can fetch nothing."""

import base64
import hashlib
import html
import re

from comfy_mcp.screen import asset

_IMPORT = re.compile(r'^import \{[\w\s,]*\} from "\./([\w.-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async function|function|const|let|class) )", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def document(module: str, *styles: str, title: str) -> str:
    """A page that runs the asset `module`, all inline, under a policy that lets nothing else in.

    The policy (`Content-Security-Policy` in a meta element) names the script and the style by their hashes
    and allows pictures and media as data: only. Raises ValueError for an asset that can't be inlined, and
    KeyError for an unknown one.
    """
    script = _inline(one_script(module), "script")
    style = _inline("\n".join(asset(name) for name in styles), "style")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n"
        f"<style>{style}</style>\n</head>\n<body>\n"
        f'<script type="module">{script}</script>\n</body>\n</html>\n'
    )


def one_script(module: str) -> str:
    """The asset and what it imports, each once, imports first, in one scope.

    Modules import by name (`import { a, b } from "./other.js";`) and export at the declaration; a name that
    two of them declare is a syntax error of the whole. Raises ValueError for any other form.
    """
    sources: dict[str, str] = {}
    _gather(module, sources, ())
    return "\n".join(sources.values())


def _gather(module: str, sources: dict[str, str], importers: tuple[str, ...]) -> None:
    if module in sources:
        return
    if module in importers:
        raise ValueError(f"{module} imports itself by way of {importers[-1]}")
    text = asset(module)
    for other in _IMPORT.findall(text):
        _gather(other, sources, (*importers, module))
    text = _EXPORT.sub("", _IMPORT.sub("", text))
    if left := _LEFT.search(text):
        raise ValueError(f"{module}: can't be inlined: {left[0]}")
    sources[module] = text


def _inline(text: str, element: str) -> str:
    """Raises ValueError where the text would end its element, or change how it is parsed."""
    if f"</{element}" in text.lower() or "<!--" in text:
        raise ValueError(f"a {element} with </{element} or <!-- in it can't be inlined")
    return text


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
