"""What the store and the clock do to the bridges. Like faults.py."""

import asyncio
import hashlib
import resource
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from comfy_mcp.cli.exits import ExitCode
from tests.faults.checker import connect
from tests.faults.stage import Stage
from tests.faults.world import Bridge, mcp_request
from tests.support.chaos_store import Mood

HOUR_MS = 3_600_000
PAGE = 4096


async def store_locked(stage: Stage) -> None:
    await stage.pause(0, 0.8)
    connection = await asyncio.to_thread(connect, stage.world.store_path)
    try:
        for _ in range(50):
            with suppress(Exception):
                connection.execute(stage.rng.choice(["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"]))
                break
            await asyncio.sleep(0.02)
        stage.note("the store is locked")
        await stage.pause(0.3, 3.0)
    finally:
        connection.close()


async def disk_full(stage: Stage) -> None:
    """The database may not have another page, or no file of the bridges may grow: what SQLite gets then is a
    write that fails, half-way perhaps."""
    await stage.pause(0, 0.8)
    if stage.rng.random() < 0.5:
        await _in_mood(stage, Mood.FULL)
        return
    store = stage.world.store_path
    sizes = [path.stat().st_size for path in store.parent.iterdir()]
    limit = max(sizes) + stage.rng.choice([0, 1, 4096, 10_000])
    victims = [bridge.process.pid for bridge in stage.world.bridges if bridge.process.alive]
    stage.note(f"no file grows beyond {limit}")
    for pid in victims:
        _limit_files(pid, limit)
    await stage.pause(0.3, 2.5)
    for pid in victims:
        _limit_files(pid, resource.RLIM_INFINITY)


async def store_read_only(stage: Stage) -> None:
    await stage.pause(0, 0.8)
    await _in_mood(stage, Mood.READ_ONLY)


async def _in_mood(stage: Stage, mood: Mood) -> None:
    stage.note(f"the store is {mood.name}")
    stage.world.mood.set(mood)
    await stage.pause(0.3, 2.5)
    stage.world.mood.set(Mood.GOOD)
    stage.note("the store is good again")


async def clock_jumps(stage: Stage) -> None:
    """An hour ahead or back; now and then a bridge dies meanwhile. With PostgreSQL, which has a clock of its
    own, that is the clock of every second bridge, as if each were on another machine."""
    assert stage.world.clock is not None
    for _ in range(stage.rng.randint(1, 2)):
        await stage.pause(0.1, 0.6)
        hours = stage.rng.choice([-1, 1])
        stage.note(f"the clock jumps {hours} h")
        stage.world.clock.set(hours * HOUR_MS)
        if stage.rng.random() < 0.6 and (victim := await stage.holder()) is not None:
            stage.note("kill the holder")
            victim.process.kill()
            await victim.process.wait()
            await stage.world.start_bridge("serve")


# ----------------------------------------------------------------------------------------------- damage


async def store_damaged(stage: Stage) -> None:
    """Pages go bad under the bridges. They have to say so and to live on; the next to start sets it aside."""
    await stage.pause(0.1, 0.8)
    _damage(stage, stage.world.store_path)
    await stage.pause(0.5, 2.0)
    stage.complain([f"a bridge ended: {bridge.process.status}" for bridge in _dead(stage.world.bridges)])
    await _end_all(stage)
    await _expect_set_aside(stage)


async def store_damaged_between(stage: Stage) -> None:
    """Nobody runs while it happens."""
    await stage.pause(0.1, 0.8)
    await _end_all(stage)
    _damage(stage, stage.world.store_path)
    await _expect_set_aside(stage)


def _damage(stage: Stage, path: Path) -> None:
    """Something else in most of the pages, or where the file says what it is."""
    pages = path.stat().st_size // PAGE
    chosen = (
        [0] if stage.rng.random() < 0.2 else [page for page in range(1, pages) if stage.rng.random() < 0.8]
    )
    stage.note(f"damage pages {chosen} of {pages}")
    with path.open("r+b") as file:
        for page in chosen:
            file.seek(page * PAGE)
            file.write(stage.rng.randbytes(PAGE))


async def _expect_set_aside(stage: Stage) -> None:
    """Start a bridge: a file that it finds damaged is kept as it was, under another name, and named. An MCP
    server that opens its store again, because it failed, may have been first."""
    path = stage.world.store_path
    damaged, before = _digest(path), _kept(path)
    bridge = await stage.world.start_bridge("serve")
    if bridge is None:
        stage.complain(["no bridge starts on a damaged store"])
        return
    kept = _kept(path)
    if not kept:
        stage.note("the damage met nothing that counts")
        return
    stage.store_lost = True
    if not {_digest(each) for each in kept - before} <= {damaged}:
        stage.complain([f"what was set aside is not what was damaged: {kept}"])
    logs = [each.process.log.read_text() for each in stage.world.bridges]
    unnamed = [each for each in kept if not any(each.name in log for log in logs)]
    stage.complain([f"no log names {each.name}" for each in unnamed])


def _kept(path: Path) -> set[Path]:
    return set(path.parent.glob(f"{path.name}.corrupt-*Z"))


# ------------------------------------------------------------------------ what can't be opened at the start


async def store_not_to_be_opened(stage: Stage) -> None:
    """A schema of the future, or no right to write: said on both surfaces, the file left alone, and all is
    well once it is put right."""
    await stage.pause(0.1, 0.8)
    await _end_all(stage)
    path = stage.world.store_path
    spoilt = stage.rng.choice([_newer, _forbidden])
    async with spoilt(path) as code:
        stage.note(f"the store is {code}")
        before = _digest(path)
        agent = await stage.world.start_bridge("mcp", chaos={"modes": True})
        if await stage.world.start_bridge("serve", chaos={"modes": True}) is not None:
            stage.complain([f"a sidecar serves with a store that is {code}"])
        sidecar = stage.world.bridges[-1].process
        if sidecar.status != ExitCode.STORE or code not in sidecar.log.read_text():
            stage.complain([f"the sidecar ended with {sidecar.status}: {sidecar.log.read_text()[-300:]}"])
        said = None if agent is None else await _ask(agent)
        if code not in str(said):
            stage.complain([f"MCP does not say {code}, but {said}"])
        if _digest(path) != before:
            stage.complain([f"a store that is {code} was written to"])
    await stage.pause(0, 0.5)


@asynccontextmanager
async def _newer(path: Path) -> AsyncIterator[str]:
    before = await asyncio.to_thread(_set_revision, path, "9999")
    yield "store_schema_newer"
    await asyncio.to_thread(_set_revision, path, before)


@asynccontextmanager
async def _forbidden(path: Path) -> AsyncIterator[str]:
    files = [(each, stat.S_IMODE(each.stat().st_mode)) for each in path.parent.glob(f"{path.name}*")]
    for each, _ in files:
        each.chmod(0o400)
    path.parent.chmod(0o500)
    yield "store_unavailable"
    path.parent.chmod(0o700)
    for each, mode in files:
        if each.exists():
            each.chmod(mode)


def _set_revision(path: Path, revision: str) -> str:
    connection = connect(path)
    try:
        (before,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return str(before)
    finally:
        connection.close()


async def _ask(bridge: Bridge) -> object:
    return await mcp_request(bridge, "tools/call", {"name": "list_workflows", "arguments": {}})


# ---------------------------------------------------------------------------------------------- all of them


async def _end_all(stage: Stage) -> None:
    stage.note("all bridges are asked to go")
    statuses = await stage.world.end()
    stage.complain([f"a bridge ended with status {status}" for status in statuses if status != 0])


def _dead(bridges: Sequence[Bridge]) -> list[Bridge]:
    return [bridge for bridge in bridges if not bridge.process.alive]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _limit_files(pid: int, size: int) -> None:
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
