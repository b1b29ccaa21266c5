"""Sections as text for a terminal and as docs/performance.md. Nothing that names a machine or a person."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from bench.stats import Aim, Section

HOW = (
    "Both sides of a comparison run in turn, each in a process of its own, at the default log level, so that "
    "ratios hold where absolute times waver. Medians are of at least 15 samples."
)
PACKAGES = ("mcp", "aiohttp", "pydantic", "SQLAlchemy")


def machine() -> str:
    """In general words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{cores} cores {platform.system()} on {platform.machine()}"


def versions() -> Mapping[str, str]:
    found = {"Python": platform.python_version()}
    return found | {name: version(name) for name in PACKAGES}


def as_text(sections: Sequence[Section]) -> str:
    """Columns in line, aims below each table."""
    return "\n\n".join(_text_block(section) for section in sections)


def as_markdown(sections: Sequence[Section], *, date: str, findings: str) -> str:
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    head = [
        "# Performance",
        "",
        f"Written by `make bench` on {date}: {machine()}; {used}.",
        HOW,
        "",
        "## Aims",
        "",
        *_table(
            ("aim", "measured", "at most", "met"),
            [
                (
                    aim.what,
                    f"{aim.value:.2f} {aim.unit}",
                    f"{aim.limit:g} {aim.unit}",
                    "yes" if aim.met else "**no**",
                )
                for aim in _aims(sections)
            ],
        ),
    ]
    body = [line for section in sections for line in _markdown_block(section)]
    return "\n".join([*head, *body, "", findings.strip(), ""])


def verdict(sections: Sequence[Section]) -> str:
    short = [aim for aim in _aims(sections) if not aim.met]
    if not short:
        return "Every aim is met."
    return "\n".join(
        [
            "Falls short:",
            "",
            *(f"- {aim.what}: {aim.value:.2f} {aim.unit}, aim {aim.limit:g} {aim.unit}" for aim in short),
        ]
    )


def _aims(sections: Sequence[Section]) -> list[Aim]:
    return [aim for section in sections for aim in section.aims]


def _text_block(section: Section) -> str:
    widths = [max(map(len, column)) for column in zip(section.columns, *section.rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (section.columns, *section.rows)
    ]
    aims = [
        f"  aim: {aim.what} ≤ {aim.limit:g} {aim.unit}: {aim.value:.2f} — {_met(aim)}" for aim in section.aims
    ]
    return "\n".join([section.title, *lines, *aims])


def _met(aim: Aim) -> str:
    return "met" if aim.met else "FALLS SHORT"


def _markdown_block(section: Section) -> list[str]:
    return ["", f"## {section.title}", "", section.note, "", *_table(section.columns, section.rows)]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    ruler = ["---", *("---:" for _ in columns[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (columns, ruler, *rows)]
