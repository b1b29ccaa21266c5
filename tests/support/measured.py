"""What a process holds, seen from outside: Linux's /proc, and its own /metrics."""

from dataclasses import dataclass
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """`memory` is bytes of the process's own memory, swapped out or not: RssAnon + VmSwap.

    Not RSS, which counts files that are mapped as long as the page cache keeps them; not USS or PSS, which
    grow in a forked process whenever a page that it shared is written, without more being used.
    """

    memory: int
    files: int
    threads: int


def held(pid: int) -> Held:
    """Raises FileNotFoundError for a process that has ended, and where there is no /proc."""
    process = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return Held(
        memory=sum(int(status[name].split()[0]) * KIB for name in ("RssAnon", "VmSwap")),
        files=len(list((process / "fd").iterdir())),
        threads=int(status["Threads"]),
    )


class Scrape:
    """One answer of /metrics. A series that there is not is 0."""

    def __init__(self, text: str) -> None:
        self._values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._values[sample.name, frozenset(sample.labels.items())] = sample.value

    @property
    def series(self) -> int:
        return len(self._values)

    def value(self, name: str, **labels: str) -> float:
        """The sum over all series that have these labels."""
        wanted = set(labels.items())
        return sum(value for (named, has), value in self._values.items() if named == name and wanted <= has)


async def scrape(session: aiohttp.ClientSession, url: str) -> Scrape:
    async with session.get(f"{url}/metrics") as answer:
        assert answer.status == 200, await answer.text()
        return Scrape(await answer.text())
