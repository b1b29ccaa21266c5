"""`python -m bench`: every part, with the report in docs/performance.md. `--only jobs` prints one part."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from bench.depth import measure_depth
from bench.files import measure_files
from bench.fleet import measure_fleet
from bench.jobs import measure_http_jobs, measure_jobs
from bench.lag import measure_lag
from bench.processes import REPOSITORY, Run
from bench.report import as_markdown, as_text, verdict
from bench.requests import measure_requests
from bench.startup import measure_startup
from bench.stats import Section
from bench.storing import measure_store
from bench.time_left import measure_time_left
from bench.tools import measure_tools

FINDINGS = Path(__file__).with_name("findings.md")
"""What was found behind the numbers; written by hand, kept below them."""

PARTS: Mapping[str, Callable[[Run], Awaitable[list[Section]]]] = MappingProxyType(
    {
        "jobs": measure_jobs,
        "http-jobs": measure_http_jobs,
        "requests": measure_requests,
        "files": measure_files,
        "lag": measure_lag,
        "startup": measure_startup,
        "tools": measure_tools,
        "store": measure_store,
        "depth": measure_depth,
        "fleet": measure_fleet,
        "time-left": measure_time_left,
    }
)


async def measure(run: Run, parts: Sequence[str]) -> list[Section]:
    """The parts in turn, each printed as soon as it is there."""
    sections: list[Section] = []
    for part in parts:
        begin = time.perf_counter()
        found = await PARTS[part](run)
        print(f"{as_text(found)}\n  ({part}: {time.perf_counter() - begin:.0f} s)\n", flush=True)
        sections += found
    return sections


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    engines = ("comfyui", "embedded") if options.engine == "both" else (options.engine,)
    with tempfile.TemporaryDirectory(prefix="comfy-bench-") as folder:
        run = Run(folder=Path(folder), engines=engines, quick=options.quick)
        sections = asyncio.run(measure(run, options.only or tuple(PARTS)))
    print(verdict(sections))
    output = options.output or (None if options.only or options.quick else REPORT)
    if output is not None:
        text = as_markdown(
            sections, date=datetime.now(UTC).date().isoformat(), findings=FINDINGS.read_text(encoding="utf-8")
        )
        output.write_text(text, encoding="utf-8")
        print(f"\nwritten to {output}")
    return 0


REPORT = REPOSITORY / "docs" / "performance.md"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure what the bridge costs.")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part (repeatable); no report")
    parser.add_argument("--quick", action="store_true", help="a few of each, to see that it runs; no report")
    parser.add_argument(
        "--engine",
        choices=("embedded", "comfyui", "both"),
        default="both",
        help="which engine runs the jobs of `jobs` (default %(default)s; installs ComfyUI once, 1.6 GB)",
    )
    parser.add_argument("--output", type=Path, help="where to write the report (default docs/performance.md)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
