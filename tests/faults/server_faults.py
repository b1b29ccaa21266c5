"""What PostgreSQL does to the bridges that keep their jobs in it. Like faults.py."""

import asyncio
from contextlib import suppress
from signal import SIGINT, SIGQUIT
from typing import Any

import psycopg

from comfy_mcp.store.postgresql.connection import STORE_LOCK
from tests.faults.stage import Stage
from tests.support.postgres import Server

DROP = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE application_name = 'comfy-bridge' AND pid <> pg_backend_pid()"
)


def server_of(stage: Stage) -> Server:
    assert stage.world.server is not None
    return stage.world.server


async def connections_dropped(stage: Stage) -> None:
    """Again and again, in whichever statement they are."""
    for _ in range(stage.rng.randint(3, 12)):
        await stage.pause(0, 0.4)
        stage.note("every connection is dropped")
        await asyncio.to_thread(_run, stage, DROP)


async def server_restarts(stage: Stage) -> None:
    """As an administrator restarts it, or as it crashes; it may be away for a while."""
    server = server_of(stage)
    await stage.pause(0, 0.8)
    how = stage.rng.choice([SIGINT, SIGQUIT])
    stage.note(f"the server ends by {how.name}")
    await asyncio.to_thread(server.stop, how)
    await stage.pause(0, 3.0)
    await asyncio.to_thread(server.start)
    stage.note("the server is back")


async def server_stands_still(stage: Stage) -> None:
    """As over a network that is split: connections are open, and nobody answers."""
    server = server_of(stage)
    await stage.pause(0, 0.8)
    stage.note("the server stands still")
    await asyncio.to_thread(server.stand_still)
    await stage.pause(0.3, 4.0)
    await asyncio.to_thread(server.go_on)
    stage.note("the server goes on")


async def holder_cut_off(stage: Stage) -> None:
    """The bridge that drives is stopped for longer than its lease, and its connections end meanwhile."""
    await stage.pause(0.1, 0.8)
    victim = await stage.holder()
    if victim is None:
        return
    stage.note("the holder is stopped, and its connections are dropped")
    victim.process.pause()
    await stage.pause(0, 0.5)
    await asyncio.to_thread(_run, stage, DROP)
    await stage.pause(1.0, 4.0)
    victim.process.go_on()


async def store_locked(stage: Stage) -> None:
    await stage.pause(0, 0.8)
    stage.note("the store is locked")
    connection = await asyncio.to_thread(_locking, str(stage.world.store))
    await stage.pause(0.3, 3.0)
    if connection is not None:
        connection.close()


def _locking(url: str) -> "psycopg.Connection[Any] | None":
    """None while another fault has the server down."""
    try:
        connection = psycopg.connect(url, autocommit=True)
    except psycopg.OperationalError:
        return None
    connection.execute(f"BEGIN; SELECT {STORE_LOCK}")
    return connection


def _run(stage: Stage, statement: str) -> None:
    """Nothing, while another fault has the server down: then there are no connections either."""
    url = server_of(stage).url()
    with suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
