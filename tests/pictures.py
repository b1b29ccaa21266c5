"""`make pictures`: the pictures in docs/ anew, from real runs of the embedded engine."""

import argparse
import asyncio
import base64
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from html import escape
from pathlib import Path
from types import MappingProxyType

import structlog

from tests.apps import picture as app
from tests.page import picture as page

ROOT = Path(__file__).parents[1]
FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,monospace"
WIDTH, LINE, MARGIN = 920, 19, 20
SKY = (315, 210)
"""Size of the demo's picture below its lines."""


async def demo(target: Path) -> None:
    """What `make demo` prints, and the picture that it made."""
    with tempfile.TemporaryDirectory() as folder:
        run = [sys.executable, str(ROOT / "examples" / "demo.py"), "--output", folder]
        said = (await asyncio.to_thread(subprocess.check_output, run, stderr=subprocess.DEVNULL)).decode()
        made = Path(said.splitlines()[-1]).read_bytes()
        lines = said.replace(str(Path(folder).resolve()), "~/comfy-mcp-bridge/demo-output").splitlines()
    target.write_text(drawn(lines, made), encoding="utf-8")


def drawn(lines: list[str], picture: bytes) -> str:
    """Lines of a terminal as SVG; the first two are the head of a table."""
    bottom = MARGIN + LINE * (len(lines) + 1)
    height = bottom + SKY[1] + MARGIN
    colors = ["#8fce7e", "#7aa2f7", "#7aa2f7"]
    texts = [
        f'<text x="{MARGIN}" y="{34 + LINE * number}"'
        f"{f' fill={chr(34)}{colors[number]}{chr(34)}' if number < len(colors) else ''}>{escape(line)}</text>"
        for number, line in enumerate(["$ make demo", *lines])
    ]
    data = base64.b64encode(picture).decode()
    size, label = f'width="{WIDTH}" height="{height}"', "Output of make demo, and the picture it made"
    space, below = (
        'xmlns="http://www.w3.org/2000/svg"',
        f'x="{MARGIN}" y="{bottom}" width="{SKY[0]}" height="{SKY[1]}"',
    )
    written = "\n".join(texts)
    return f"""<svg {space} {size} viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">
<rect {size} rx="8" fill="#16181d"/>
<g font-family="{FONT}" font-size="14" fill="#d7dae0" xml:space="preserve">
{written}
</g>
<image {below} href="data:image/png;base64,{data}"/>
</svg>
"""


PICTURES: Mapping[str, Callable[[Path], Coroutine[None, None, None]]] = MappingProxyType(
    {"page.png": page.make, "mcp-app.png": app.make, "demo.svg": demo}
)
"""By their names in docs/."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.pictures", description="Make docs/'s pictures anew."
    )
    parser.add_argument("name", nargs="*", help=f"only these of {', '.join(PICTURES)}")
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    for name in parser.parse_args().name or PICTURES:
        structlog.configure(wrapper_class=quiet)
        asyncio.run(PICTURES[name](ROOT / "docs" / name))
        print(ROOT / "docs" / name)


if __name__ == "__main__":
    main()
