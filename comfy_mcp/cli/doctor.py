"""`comfy-bridge doctor`: the configuration, the engines and what to fix. Never a secret."""

import platform
import sys
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from comfy_mcp import __version__
from comfy_mcp.cli.exits import ExitCode
from comfy_mcp.cli.output import Output, error_document, in_commands
from comfy_mcp.cli.session import open_session
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.logs import hide_userinfo
from comfy_mcp.operations.shapes import EngineItem, SystemResult
from comfy_mcp.settings import Settings, sources

PACKAGES = ("mcp", "aiohttp", "pydantic", "SQLAlchemy", "Pillow", "pysqlite3", "nvidia-ml-py")
EMBEDDED = "the embedded engine, not ComfyUI"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingLine:
    """A setting that is not at its default. `source`: an environment variable, or "option"."""

    name: str
    source: str
    value: str

    def document(self) -> dict[str, str]:
        return {"name": self.name, "source": self.source, "value": self.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The findings of doctor. If the store can't be opened, `system` comes from an empty one."""

    settings: tuple[SettingLine, ...]
    system: SystemResult
    store_fault: StoreFault | None

    @property
    def problems(self) -> list[str]:
        found = [in_commands(problem) for problem in self.system.problems]
        if self.store_fault is not None:
            found.insert(0, f"{self.store_fault.message} {in_commands(self.store_fault.next_step)}")
        return found

    @property
    def exit_code(self) -> ExitCode:
        """A store or an engine that does not work; that nobody drives it yet is normal for a command."""
        if self.store_fault is not None:
            return ExitCode.STORE
        return ExitCode.OK if all(engine.up for engine in self.system.engines) else ExitCode.ENGINE


async def doctor(settings: Settings, output: Output, *, by_option: Collection[str]) -> ExitCode:
    """`by_option`: names of the settings that the command line gave."""
    findings = await _look(settings, by_option)
    output.result(_document(findings), list(_lines(findings)))
    return findings.exit_code


async def _look(settings: Settings, by_option: Collection[str]) -> Findings:
    lines = tuple(_setting_lines(settings, by_option))
    try:
        return Findings(settings=lines, system=await _system(settings), store_fault=None)
    except StoreFault as fault:
        with tempfile.TemporaryDirectory(prefix="comfy-bridge-doctor-") as empty:
            system = await _system(settings.model_copy(update={"state_dir": Path(empty), "store": None}))
        return Findings(settings=lines, system=system, store_fault=fault)


async def _system(settings: Settings) -> SystemResult:
    async with open_session(settings, drive=False) as session:
        result: SystemResult = await session.call("system_status", {})
        return result


def _setting_lines(settings: Settings, by_option: Collection[str]) -> Iterable[SettingLine]:
    given = sources() | dict.fromkeys(by_option, "option")
    for name in type(settings).model_fields:
        if name in given:
            yield SettingLine(name=name, source=given[name], value=_shown(getattr(settings, name)))


def _shown(value: object) -> str:
    """A setting's value, or a note that there is one."""
    if isinstance(value, SecretStr):
        return "set (secret)"
    if isinstance(value, dict):  # headers: their names are no secret
        return f"{', '.join(value)} (values secret)"
    if isinstance(value, tuple):
        return ", ".join(_shown(item) for item in value)
    return _without_query(hide_userinfo(str(value)))


def _without_query(text: str) -> str:
    """Of a URL, which may have a token there."""
    address, mark, _ = text.partition("?")
    return f"{address}?(secret)" if mark and "://" in address else text


def _versions() -> dict[str, str | None]:
    return {"comfy-mcp-bridge": __version__, "Python": platform.python_version()} | {
        name: _version(name) for name in PACKAGES
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _document(findings: Findings) -> dict[str, Any]:
    system = findings.system.model_dump(mode="json")
    for engine in system["engines"]:
        engine["url"] = hide_userinfo(engine["url"])
    fault = findings.store_fault
    if fault is not None:
        system["store"] = error_document(fault)
    return system | {
        "versions": _versions(),
        "platform": sys.platform,
        "settings": [line.document() for line in findings.settings],
        "problems": [hide_userinfo(problem) for problem in findings.problems],
    }


def _lines(findings: Findings) -> Iterable[str]:
    system = findings.system
    yield "versions  " + ", ".join(f"{name} {number or 'missing'}" for name, number in _versions().items())
    if findings.settings:
        width = max(len(line.name) for line in findings.settings)
        for line in findings.settings:
            yield f"setting   {line.name:<{width}}  {line.value}  (from {line.source})"
    else:
        yield "setting   all at their defaults"
    for engine in system.engines:
        yield f"engine    {_engine_text(engine)}"
    for gpu in system.gpu.gpus:
        yield f"gpu       {gpu.index}: {gpu.text()} (from {gpu.engine or 'the driver'})"
    if not system.gpu.gpus:
        yield f"gpu       none: {system.gpu.reason or 'none reported'}"
    yield f"store     {_store_text(findings)}"
    if findings.store_fault is None:
        yield "jobs      " + (
            ", ".join(f"{count} {status}" for status, count in system.jobs.items() if count) or "none"
        )
    for problem in findings.problems:
        yield f"to fix    {hide_userinfo(problem)}"


def _engine_text(engine: EngineItem) -> str:
    url = hide_userinfo(engine.url)
    if not engine.up:
        return f"{engine.id} at {url}: DOWN — {hide_userinfo(engine.error or 'no answer')}"
    kind = "ComfyUI" if engine.is_comfyui else EMBEDDED
    driver = f"driven by {engine.driven_by}" if engine.driven_by else "driven by no process"
    state = "up, drained" if engine.drained else "up"
    return (
        f"{engine.id} at {url}: {state}, {kind} {engine.version or '(version unknown)'}, "
        f"{engine.queue_remaining or 0} in its queue, {driver}"
    )


def _store_text(findings: Findings) -> str:
    if findings.store_fault is not None:
        return f"BROKEN — {findings.store_fault.message}"
    store = findings.system.store
    return (
        f"{store.path} ({store.driver}, {store.version}, journal {store.journal_mode}, "
        f"schema {store.schema_revision})"
    )
