"""The process that checks: reads questions from stdin, writes answers to stdout, until stdin ends.

It imports the domain and nothing else of the product. Its parent may kill it at any time.
"""

import json
import os
import signal
import sys
import time
from typing import Any, BinaryIO

from comfy_mcp.checking.messages import HEADER, OUT_OF_MEMORY, Answer, Question, Refusal, packed, unpacked
from comfy_mcp.domain.errors import InvalidGraph
from comfy_mcp.domain.graph import unwrapped
from comfy_mcp.domain.judging import judge
from comfy_mcp.domain.object_info import ObjectInfo

MEMORY_BYTES = 4 * 2**30
"""A workflow of the default limit takes some 300 MB; the setting may be raised."""


def main(stdin: BinaryIO, stdout: BinaryIO) -> None:
    info: ObjectInfo | None = None
    while (question := _read(stdin)) is not None:
        info = info if question.same_info else question.info
        _limit_cpu(question.cpu_s)
        try:
            answer = packed(_answer(question, info))
        except MemoryError:
            sys.exit(OUT_OF_MEMORY)
        try:
            stdout.write(answer)
            stdout.flush()
        except BrokenPipeError:  # whoever asked has died
            os._exit(0)  # the interpreter would try once more to write what is left, and show a traceback


def _answer(question: Question, info: ObjectInfo | None) -> Answer | Refusal:
    try:
        given = json.loads(question.text)
        judged = judge(given, info, moment=lambda: question.moment)
    except InvalidGraph as error:
        return Refusal.of(error)
    same = isinstance(given, dict) and judged.graph.raw is unwrapped(given)
    raw = None if same else dict(judged.graph.raw)
    return Answer(
        raw=raw,
        report=judged.report,
        needs=judged.needs,
        warnings=judged.warnings,
        controls=judged.controls,
    )


def _read(stdin: BinaryIO) -> Question | None:
    header = stdin.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (size,) = HEADER.unpack(header)
    if len(data := stdin.read(size)) < size:  # whoever asked has died
        return None
    question: Any = unpacked(data)
    assert isinstance(question, Question)
    return question


def _limit_cpu(seconds: int) -> None:
    """From now on; beyond it the system ends this process."""
    if sys.platform != "win32":
        import resource

        _, hardest = resource.getrlimit(resource.RLIMIT_CPU)
        limit = int(time.process_time()) + seconds + 1
        soft = limit if hardest == resource.RLIM_INFINITY else min(limit, hardest)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hardest))


def _limit_memory() -> None:
    if sys.platform != "win32":
        import resource

        _, hardest = resource.getrlimit(resource.RLIMIT_AS)
        limit = MEMORY_BYTES if hardest == resource.RLIM_INFINITY else min(MEMORY_BYTES, hardest)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hardest))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end closes stdin
    _limit_memory()
    main(sys.stdin.buffer, sys.stdout.buffer)
