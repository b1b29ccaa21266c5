"""From a command to the operations: settings, logs, the runtime, errors and the exit code."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

from comfy_mcp.cli.exits import ExitCode, exit_code_of
from comfy_mcp.cli.output import Output, discard_stdout
from comfy_mcp.domain.errors import BridgeError
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.context import Caller, ProgressReport
from comfy_mcp.settings import Settings, load_settings

Command = Callable[[Settings, Output], Awaitable[ExitCode]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options before the command's name. `log_level` None: the environment's level, else warning."""

    engine: str | None = None
    state_dir: Path | None = None
    log_level: str | None = None

    def overrides(self) -> dict[str, object]:
        """The settings that they override, by name."""
        given = {"engine_urls": self.engine, "state_dir": self.state_dir, "log_level": self.log_level}
        return {name: value for name, value in given.items() if value is not None}

    def settings(self) -> Settings:
        """Raises InvalidInput (code `configuration`)."""
        return load_settings(**self.overrides())


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Operations of an open bridge, called as the command line's client."""

    bridge: Bridge
    settings: Settings

    async def call(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        *,
        on_progress: ProgressReport | None = None,
        content: AsyncIterable[bytes] | None = None,
    ) -> Any:
        """The operation's Result. `content`: the bytes of a file. Raises BridgeError."""
        return await self.bridge.call(
            operation, arguments, caller=self.caller, on_progress=on_progress, content=content
        )

    @property
    def caller(self) -> Caller:
        return Caller(client=ClientId(self.settings.client_name), surface="cli")


@contextlib.asynccontextmanager
async def open_session(settings: Settings, *, drive: bool) -> AsyncIterator[Session]:
    """`drive`: this process runs jobs itself, for any engine that no other process drives."""
    from comfy_mcp.cli.lean_aiohttp import import_aiohttp

    import_aiohttp()  # before the runtime does
    from comfy_mcp.runtime import open_bridge

    async with open_bridge(settings, drive=drive, counted=False) as bridge:
        yield Session(bridge=bridge, settings=settings)


def execute(options: Options, output: Output, command: Command, *, own_logs: bool = False) -> NoReturn:
    """Run `command` and end the process with its exit code; no traceback reaches a user.

    `own_logs`: the settings' log level counts as it is (servers); else warning, unless one was asked for.
    """
    with _pipe_may_close():
        sys.exit(_run(options, output, command, own_logs))


def _run(options: Options, output: Output, command: Command, own_logs: bool) -> ExitCode:
    from comfy_mcp.logs import configure

    try:
        settings = options.settings()
        asked_for = own_logs or "log_level" in settings.model_fields_set
        configure(settings, level=None if asked_for else "warning")
        return asyncio.run(_unwrapped(command, settings, output))
    except BridgeError as error:
        output.error(error)
        return exit_code_of(error)
    except KeyboardInterrupt:
        output.note("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the last stop: logged with an id, its text stays in the log
        return _defect(output, error)


async def _unwrapped(command: Command, settings: Settings, output: Output) -> ExitCode:
    """A BridgeError that a TaskGroup wrapped comes out as itself."""
    try:
        return await command(settings, output)
    except BaseExceptionGroup as group:
        known = group.subgroup(BridgeError)
        if known is None:
            raise
        raise _first(known) from group


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _defect(output: Output, error: Exception) -> ExitCode:
    import structlog

    error_id = uuid4().hex[:8]
    structlog.get_logger(__name__).error("command_failed", error_id=error_id, exc_info=error)
    output.error(
        BridgeError(  # shown, never raised
            f"comfy-bridge failed ({type(error).__name__}, error id {error_id}).",
            next_step="The log on stderr has the details; please report it with them.",
        )
    )
    return ExitCode.INTERNAL


@contextlib.contextmanager
def _pipe_may_close() -> Any:
    """`comfy-bridge outputs | head` ends quietly, as other commands do."""
    try:
        yield
    except BrokenPipeError:
        discard_stdout()
        sys.exit(ExitCode.OK)
