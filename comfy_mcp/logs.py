"""Logging: structlog and the libraries' own logging in one format, to stderr only.

stdout belongs to MCP and to the commands' results. Secrets are removed twice: by the name of a field, and
by value in the finished line, because an exception's text may quote a header.
"""

import asyncio
import contextlib
import contextvars
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _text
from typing import Any

import structlog
from structlog.contextvars import merge_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.redaction import HIDDEN, names_a_secret, without_values
from comfy_mcp.settings import EngineGroup, EngineSettings, LogGroup, Settings, unknown_variables

_USERINFO = re.compile(r"(?<=://)[^/@\s\"']+(?=@)")
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(settings: Settings, *, level: str | None = None) -> None:
    """Send all logging of this process to stderr as the settings say; `level` overrides theirs.

    May be called again: the last call counts.
    """
    global _routine, _hide
    least = _LEVELS[level or settings.log_level]
    shared: list[Processor] = [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        hide_named_secrets,
    ]
    hide = _hide = _HideValues(secret_values(settings))
    finish: list[Processor] = [_renderer(settings), hide]
    _routine = _RoutineLines(least, hide.in_line) if _style(settings) == "json" else None
    structlog.configure(
        processors=[_some_of_the_same(), *shared, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(file=_CURRENT_STDERR),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(_CURRENT_STDERR)
    handler.addFilter(_Repeated())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(least, _FOREIGN_LEAST[least]), force=True)
    logging.captureWarnings(True)
    if unknown := unknown_variables():
        structlog.get_logger(__name__).warning(
            "unknown_settings", variables=unknown, known="docs/settings.md", removed="CHANGELOG.md"
        )


Facts = dict[str, str | float | None]


def routine(level: int, event: str, facts: Facts) -> None:
    """Log what happens with every request or every job: the line that structlog would write, for a fifth of
    the CPU. The names of the facts are in the code, and none names a secret. Nobody changes `facts` after."""
    if _routine is None:
        structlog.get_logger().log(level, event, **facts)
    else:
        _routine.write(level, event, facts)


REPEAT_S = 60.0
"""What repeats has one log line in this time."""


class _Bound:
    """Counts what repeats, and lets `burst` of it through each minute."""

    def __init__(self, burst: int, now: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._now = now
        self._begun = float("-inf")
        self._passed = 0
        self._left_out = 0

    def next(self) -> int | None:
        """None: one too many; else how many were left out before this one."""
        now = self._now()
        if now - self._begun >= REPEAT_S:
            self._begun, self._passed = now, 0
        if self._passed >= self._burst:
            self._left_out += 1
            return None
        self._passed += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


class Repeats:
    """A log line for what strangers can make happen thousands of times: `burst` lines a minute, then none;
    the next line says how many were left out (`not_logged`)."""

    def __init__(
        self,
        log: Any,
        event: str,
        *,
        burst: int = 1,
        level: int = logging.WARNING,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._level = level
        self._event = event
        self._bound = _Bound(burst, now)

    def happened(self, **facts: object) -> None:
        """Log it, or count it."""
        if (left_out := self._bound.next()) is not None:
            self._log.log(self._level, self._event, **facts, **_and_more(left_out))


def _and_more(left_out: int) -> dict[str, int]:
    return {"not_logged": left_out} if left_out else {}


def _some_of_the_same(burst: int = 30) -> Processor:
    """At most `burst` warnings and errors of one kind a minute: what fails is tried again for as long as it
    fails, many times a second, and for each of hundreds of engines."""
    bounds: Bounded[str, _Bound] = Bounded(256)

    def process(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if method in ("debug", "info"):
            return event
        name = str(event.get("event"))
        bound = bounds.get(name)
        if bound is None:
            bound = bounds[name] = _Bound(burst)
        left_out = bound.next()
        if left_out is None:
            raise structlog.DropEvent
        return {**event, **_and_more(left_out)}

    return process


class _Repeated(logging.Filter):
    """The same for the libraries' lines: one a minute of those that begin alike."""

    def __init__(self) -> None:
        super().__init__()
        self._last: Bounded[tuple[str, str], float] = Bounded(256)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        kind = (record.name, record.getMessage().partition("\n")[0])
        now = time.monotonic()
        if now - self._last.get(kind, float("-inf")) < REPEAT_S:
            return False
        self._last[kind] = now
        return True


_FOREIGN_LEAST = {
    # The libraries' info is about themselves (a line per request, per migration): not at our info.
    logging.DEBUG: logging.DEBUG,
    logging.INFO: logging.WARNING,
    logging.WARNING: logging.WARNING,
    logging.ERROR: logging.ERROR,
}


def secret_values(settings: EngineGroup) -> tuple[str, ...]:
    """Every secret in the settings, in the forms that may appear in a text."""
    keys = [key for key in settings.comfy_org_key_values if len(key) >= _SHORTEST_SECRET]
    return tuple(sorted({*keys, *_of_engines(settings.engines)}, key=len, reverse=True))


def hide_secrets_of(engines: Iterable[EngineSettings]) -> None:
    """From now on, those of these engines too: they may have come after `configure`."""
    _hide.add(_of_engines(engines))


def _of_engines(engines: Iterable[EngineSettings]) -> set[str]:
    held = [value for engine in engines for value in engine.secrets()]
    # "Bearer abc" is quoted whole or in part.
    parts = (part for value in held for part in (value, value.rpartition(" ")[2]))
    return {part for part in parts if len(part) >= _SHORTEST_SECRET}


_SHORTEST_SECRET = 4
"""Shorter values ("1", "on") are not secrets; hiding them would make lines unreadable."""


def hide_named_secrets(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A structlog processor that hides the values of fields with a secret's name."""
    return {name: HIDDEN if _names_a_secret(name) else value for name, value in event.items()}


@lru_cache(maxsize=1024)
def _names_a_secret(name: str) -> bool:
    """The fields' names are in the code: there are some dozens of them."""
    return names_a_secret(name)


def hide_userinfo(text: str) -> str:
    """`http://user:password@host` without the user and password."""
    return _USERINFO.sub(HIDDEN, text) if "://" in text else text


class _HideValues:
    """The last processor: removes known secrets from the finished line."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets: list[str] = []
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in (secret, _in_json(secret))}
        self._secrets = sorted(forms.union(self._secrets), key=len, reverse=True)

    def __call__(self, logger: WrappedLogger, method: str, line: Any) -> str:
        return self.in_line(str(line))

    def in_line(self, line: str) -> str:
        return hide_userinfo(without_values(line, self._secrets))


def _in_json(secret: str) -> str:
    return json.dumps(secret)[1:-1]


class _RoutineLines:
    """Writes lines of JSON; `hide` removes the known secrets from them. What comes in one step of the event
    loop is put in words and written together, and every other line waits for it."""

    def __init__(self, least: int, hide: Callable[[str], str]) -> None:
        self._least = least
        self._hide = hide
        self._waiting: list[tuple[int, str, Facts, contextvars.Context, int]] = []
        self._second, self._until = 0, ""
        self._names = {number: f'"level": "{name}", "timestamp": "' for name, number in _LEVELS.items()}

    def write(self, level: int, event: str, facts: Facts) -> None:
        if level < self._least:
            return
        self._waiting.append((level, event, facts, contextvars.copy_context(), time.time_ns()))
        if len(self._waiting) == 1:
            try:
                asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:  # no loop runs
                self.flush()

    def flush(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            _write(self._hide("".join([self._line(*each) for each in waiting])))

    def _line(self, level: int, event: str, facts: Facts, context: contextvars.Context, at_ns: int) -> str:
        members = context.run(merge_contextvars, None, "", {**facts, "event": event})
        parts = [
            f'"{name}": {_text(value) if isinstance(value, str) else "null" if value is None else value}'
            for name, value in members.items()
        ]
        return f'{{{", ".join(parts)}, {self._names[level]}{self._time(at_ns)}"}}\n'

    def _time(self, at_ns: int) -> str:
        """As structlog writes it; all but the fraction is made once a second."""
        second, fraction = divmod(at_ns // 1000, 1_000_000)
        if second != self._second:
            self._second, self._until = second, f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
        return f"{self._until}.{fraction:06}Z"


_routine: _RoutineLines | None = None
_hide = _HideValues(())


def _renderer(settings: LogGroup) -> Processor:
    if _style(settings) == "console":
        return structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"),
            exception_formatter=structlog.dev.plain_traceback,
        )
    encode = json.JSONEncoder(default=str).encode  # json.dumps with a default builds one for each line
    return structlog.processors.JSONRenderer(lambda event, **_options: encode(event))


def _style(settings: LogGroup) -> str:
    if settings.log_format != "auto":
        return settings.log_format
    return "console" if sys.stderr.isatty() else "json"


class _CurrentStderr:
    """sys.stderr as it is at the time of writing: tests and hosts replace it."""

    def write(self, text: str) -> int:
        if _routine is not None:
            _routine.flush()
        return _write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def _write(text: str) -> int:
    """A line that can't be written, to a full disk or a pipe whose reader has gone, is lost: no work fails
    because of it."""
    with contextlib.suppress(OSError):
        return sys.stderr.write(text)
    return len(text)


_CURRENT_STDERR: Any = _CurrentStderr()

# Before `configure` has run (a failure while the settings are read) structlog would write to stdout.
structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=_CURRENT_STDERR))
