"""Judges workflows: small ones here, large ones in one process of their own with a CPU limit.

That process is started when the first large workflow comes, and ends with this one, or when it is idle. One
that is over its limit or dies is replaced for the next workflow.
"""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable

import structlog

from comfy_mcp.checking.messages import HEADER, OUT_OF_MEMORY, Answer, Question, Refusal, packed, unpacked
from comfy_mcp.domain.errors import ErrorCode, InvalidGraph, LimitExceeded
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.domain.judging import Judged, judge
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.ui_scopes import Budget, OverBudget
from comfy_mcp.domain.ui_texts import Moment
from comfy_mcp.shares import Shares, Turns

log = structlog.get_logger(__name__)

CPU_S = 10
"""For one workflow. The largest that the default settings allow takes less than 3 s."""

WALL_S = 60.0
"""For one workflow, on a machine that has other work."""

INLINE_BYTES = 256 * 2**10
"""Workflows that have more bytes as JSON are judged in the process: smaller ones take some milliseconds."""

WAITING = 16
"""Large workflows that wait for their turn, each with its text; further ones are refused."""

IDLE_S = 300.0
"""The process ends when no large workflow has come for this long."""

HERE_SHARE = 0.05
"""Of the budget of conversion, what is spent on the event loop: 1,000 nodes out of subgraphs."""


class Checker:
    """`moment` is asked for each workflow that depends on it."""

    def __init__(self, moment: Callable[[], Moment | None] = lambda: None, *, cpu_s: int = CPU_S) -> None:
        self._moment = moment
        self._cpu_s = cpu_s
        self._turns = Turns()
        self._waiting = Shares(
            WAITING,
            "large workflows that are checked",
            code=ErrorCode.QUEUE_FULL,
            next_step="Try again in a few seconds.",
        )
        self._process: Process | None = None
        self._known: ObjectInfo | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._over = False

    def is_large(self, text: bytes) -> bool:
        """Whether a workflow of this JSON is too much for the event loop."""
        return len(text) > INLINE_BYTES

    async def judge(self, raw: object, text: bytes, info: ObjectInfo | None, *, client: ClientId) -> Judged:
        """`text` is `raw` as JSON. `client` is who waits for it: clients take turns.

        Raises InvalidGraph, and LimitExceeded (`too_large`) where the check takes too much CPU or memory,
        (`queue_full`) where too many wait.
        """
        if not self.is_large(text):
            with contextlib.suppress(OverBudget):
                return judge(raw, info, Budget(share=HERE_SHARE), self._moment)
        with self._waiting.place(client):
            async with self._turns.turn(client):
                answer = await self._asked(text, info)
        graph = await asyncio.to_thread(parse_graph, raw if answer.raw is None else answer.raw)
        return Judged(
            graph=graph,
            report=answer.report,
            needs=answer.needs,
            warnings=answer.warnings,
            controls=answer.controls,
        )

    async def aclose(self) -> None:
        """End the process."""
        if self._idle is not None:
            self._idle.cancel()
        process, self._process, self._known = self._process, None, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _asked(self, text: bytes, info: ObjectInfo | None) -> Answer:
        if self._idle is not None:
            self._idle.cancel()
        try:
            async with asyncio.timeout(WALL_S):
                reply = await self._reply(text, info)
        except (TimeoutError, EOFError, OSError) as fault:
            if self._process is None:
                log.warning("check_not_started", error=str(fault))
            code = await self._ended(killed=isinstance(fault, TimeoutError))
            log.warning("check_ended", bytes=len(text), exit_code=code)
            raise _too_much(len(text), self._cpu_s) from None
        except BaseException:
            await self.aclose()  # a late answer would be read as that of the next question
            raise
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._end_idle)
        if isinstance(reply, Refusal):
            raise InvalidGraph(
                reply.message,
                next_step=reply.next_step,
                problems=reply.problems,
                code=ErrorCode(reply.code),
                details=reply.details,
            )
        return reply

    async def _reply(self, text: bytes, info: ObjectInfo | None) -> Answer | Refusal:
        """Raises EOFError and OSError where the process has died."""
        if self._process is None or self._process.returncode is not None or self._over:
            await self.aclose()
            self._over = False
            self._process = await asyncio.create_subprocess_exec(
                # -P: a json.py in the folder that the bridge was started in must not be imported.
                *(sys.executable, "-P", "-m", "comfy_mcp.checking.worker"),
                stdin=PIPE,
                stdout=PIPE,
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        same = info is not None and info is self._known
        question = Question(
            text=text,
            cpu_s=self._cpu_s,
            info=None if same else info,
            same_info=same,
            moment=self._moment(),
        )
        process.stdin.write(await asyncio.to_thread(packed, question))
        await process.stdin.drain()
        self._known = info
        (length,) = HEADER.unpack(await process.stdout.readexactly(HEADER.size))
        reply: Answer | Refusal = await asyncio.to_thread(unpacked, await process.stdout.readexactly(length))
        return reply

    async def _ended(self, *, killed: bool) -> int | None:
        """The exit code of the process, which is over its limits. Any other end is a defect: it is raised."""
        process = self._process
        if process is None:
            raise LimitExceeded(
                "The process that checks large workflows could not be started.",
                next_step="Submit again in a few seconds; the log of the server has the cause.",
            )
        if not killed:
            await process.wait()
        code = process.returncode
        await self.aclose()
        if code not in _LIMITS and not killed:
            raise RuntimeError(f"the process that checks workflows ended with code {code}")
        return code

    def _end_idle(self) -> None:
        """It ends when it reads the end of its input, and is waited for before the next one starts."""
        self._over = True
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


_LIMITS = frozenset({-24, -9, OUT_OF_MEMORY})
"""How the process ends beyond its limits: SIGXCPU, SIGKILL (when the system has no memory), or by itself."""


def _too_much(size: int, cpu_s: int) -> LimitExceeded:
    return LimitExceeded(
        f"Checking this workflow of {size} bytes takes more than {cpu_s} s of CPU time, or too much memory.",
        next_step="Make it smaller: split it, or upload what is embedded in it as input files.",
        code=ErrorCode.TOO_LARGE,
    )
