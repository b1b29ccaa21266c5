"""`python -m tests.faults [--trials N] [--seed S]`: many trials, a table, the first violation."""

import argparse
import asyncio
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.faults.engines import comfyui_engines
from tests.faults.harness import AT_ONCE, REAL_KINDS, complaint, run_trials, table
from tests.faults.trial import Result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--trials", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="trial n has the seed S + n")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, metavar="K")
    parser.add_argument("--folder", type=Path, help="keep the trials' files here (default: a temporary one)")
    parser.add_argument("--engine", choices=["embedded", "comfyui"], default="embedded")
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--fleet", action="store_true", help="three bridges, five engines, PostgreSQL")
    options = parser.parse_args()
    if options.fleet:
        options.engine, options.store = "embedded", "postgresql"
    folder = options.folder or Path(tempfile.mkdtemp(prefix="comfy-faults-"))

    def progress(result: Result) -> None:
        mark = "x" if result.outcome.violations else "."
        print(mark, end="", file=sys.stderr, flush=True)

    numbers = range(options.trials)
    with_seed = partial(
        run_trials,
        folder,
        numbers,
        seed=options.seed,
        store=options.store,
        fleet=options.fleet,
        on_result=progress,
    )
    if options.engine == "comfyui":
        results = asyncio.run(with_seed(at_once=1, engines=comfyui_engines, kinds=REAL_KINDS))
    else:
        results = asyncio.run(with_seed(at_once=options.at_once))
    print(file=sys.stderr)
    print("\n".join(table(results)))
    bad = [result for result in results if result.outcome.violations]
    for result in bad:
        print(complaint(result, options.engine, options.store, fleet=options.fleet))
        print(f"    files: {folder / f'seed-{result.seed}'}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
