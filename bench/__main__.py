"""`python -m bench [--quick] [--engine embedded|comfyui|both] [--rounds N] [--output FILE]`."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench.http import QUICK_HTTP, HttpPlan, measure_http
from bench.jobs import measure_jobs
from bench.report import as_markdown, as_text, verdict
from bench.servers import REPOSITORY
from bench.startup import SETTLE_S, measure_startup
from bench.stats import Section
from bench.storing import measure_store
from bench.tools import measure_tools
from comfy_mcp.logs import configure
from comfy_mcp.settings import load_settings
from tests.support.processes import embedded_engine

FINDINGS = Path(__file__).with_name("findings.md")
"""What was found behind the numbers; written by hand, kept below them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often each thing is measured."""

    jobs: int = 300
    queued: int = 200
    queue_rounds: int = 3
    calls: int = 300
    starts: int = 5
    settle_s: float = SETTLE_S
    store_jobs: int = 500
    http: HttpPlan = field(default_factory=HttpPlan)


QUICK = Plan(jobs=3, queued=5, queue_rounds=1, calls=3, starts=1, settle_s=0.0, store_jobs=5, http=QUICK_HTTP)


async def measure(plan: Plan, engines: Sequence[str], folder: Path) -> list[Section]:
    """Every part in turn, each printed as soon as it is there."""
    configure(load_settings(log_level="error"))
    sections: list[Section] = []

    def found(*new: Section) -> None:
        sections.extend(new)
        print(as_text(new), end="\n\n", flush=True)

    async with embedded_engine(folder / "engine") as (_, url):
        for name in engines:
            here = folder / name
            here.mkdir()
            async with _engine(name, url, here) as (at, called):
                amounts = {"jobs": plan.jobs, "queued": plan.queued, "rounds": plan.queue_rounds}
                found(await measure_jobs(at, here, called, **amounts))
        found(await measure_tools(url, folder, calls=plan.calls))
        found(*await measure_startup(url, folder, starts=plan.starts, settle_s=plan.settle_s))
        async for section in measure_http(url, folder / "engine", folder / "http", plan.http):
            found(section)
    found(await measure_store(folder, jobs=plan.store_jobs))
    return sections


@asynccontextmanager
async def _engine(name: str, embedded: str, folder: Path) -> AsyncIterator[tuple[str, str]]:
    """(URL, what to call it)."""
    if name == "embedded":
        yield embedded, "the embedded engine"
        return
    from tests.support.real_comfyui import RealComfyUI

    comfyui = await asyncio.to_thread(RealComfyUI, folder / "comfyui")
    try:
        await asyncio.to_thread(comfyui.start)
        yield comfyui.url, "ComfyUI on CPU"
    finally:
        await asyncio.to_thread(comfyui.stop)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    plan = QUICK if options.quick else Plan(jobs=options.rounds, calls=options.rounds)
    engines = ("embedded", "comfyui") if options.engine == "both" else (options.engine,)
    with tempfile.TemporaryDirectory(prefix="comfy-bench-") as folder:
        sections = asyncio.run(measure(plan, engines, Path(folder)))
    print(verdict(sections))
    given = "--quick" if options.quick else f"--engine {options.engine} --rounds {options.rounds}"
    text = as_markdown(
        sections,
        date=datetime.now(UTC).date().isoformat(),
        how=f"python -m bench {given}",
        findings=FINDINGS.read_text(encoding="utf-8"),
    )
    options.output.write_text(text, encoding="utf-8")
    print(f"\nwritten to {options.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What the bridge costs, measured.")
    parser.add_argument("--quick", action="store_true", help="a few of each, to see that it runs")
    parser.add_argument(
        "--engine",
        choices=("embedded", "comfyui", "both"),
        default="embedded",
        help="which engine runs the jobs (default %(default)s; comfyui installs it once)",
    )
    parser.add_argument("--rounds", type=int, default=Plan().jobs, help="jobs and calls of each kind")
    output = REPOSITORY / "docs" / "performance.md"
    parser.add_argument("--output", type=Path, default=output, help="where the report goes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
