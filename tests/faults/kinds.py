"""The kinds of trial: which fault, and what it needs of the rest."""

import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from comfy_mcp.settings import Settings
from tests.faults import aftermath, cloud_faults, faults, file_faults, points, server_faults, store_faults
from tests.faults.stage import Stage
from tests.faults.world import Bridge

Chaos = Callable[[random.Random], dict[str, Any]]

STORE = frozenset({"store_unavailable"})
ENDED = STORE | {"shutting_down"}
DAMAGED = ENDED | {"store_corrupt", "workflow_not_found"}  # not found: in the store that was set aside
NOT_OPEN = ENDED | {"store_schema_newer"}
AS_SHIPPED = {
    name.upper(): str(Settings.model_fields[name].default)
    for name in ("request_timeout_s", "connect_timeout_s")
}
TOO_LATE = frozenset({"invalid_argument"})
"""A workflow that is to wait for one that has failed by then is refused."""

IMPATIENT = {"BUSY_S": "1"}
"""For faults that keep the store from others for longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`chaos` goes into the first bridge; `cancels`: the part of the jobs that somebody cancels;
    `lossy_engine`: whether a prompt may get lost at all; `spread_s`: submits come within this time;
    `deadlines`: the part of the jobs that have one; `refusals`: error codes that a caller may meet;
    `defects`: jobs that may fail as `internal`, because a defect was put into the bridge for them;
    `files`: most jobs have an input file of their own. `chains`: the part of the jobs that another one waits
    for. `cloud`: jobs go to services too."""

    name: str
    run: Callable[[Stage], Coroutine[Any, Any, None]]
    chaos: Chaos | None = None
    after: Callable[[Stage, Bridge], Awaitable[list[str]]] | None = None
    more_bridges: Sequence[int] = (0, 1, 1, 2)
    cancels: float = 0.25
    keyed: bool = False
    history_limit: int | None = None
    bent_clock: bool = False
    lossy_engine: bool = True
    spread_s: float = 0.8
    deadlines: float = 0.0
    embedded_only: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    refusals: frozenset[str] = frozenset()
    defects: int = 0
    files: bool = False
    chains: float = 0.0
    cloud: bool = False


TWO_AT_ONCE = Kind(
    name="two at once",
    run=faults.two_at_once,
    more_bridges=(0, 1, 2),
    settings=IMPATIENT,
    refusals=STORE,
)
"""Stands in the list more than once: there are many pairs."""

KINDS: tuple[Kind, ...] = (
    Kind(name="none", run=faults.nothing, lossy_engine=False),
    Kind(name="socket cut", run=faults.socket_cut, lossy_engine=False),
    Kind(name="socket silent", run=faults.socket_silent, lossy_engine=False),
    Kind(name="socket deaf", run=faults.socket_deaf, lossy_engine=False),
    Kind(name="engine silent", run=faults.engine_silent),
    Kind(name="engine lies", run=faults.engine_lies),
    Kind(name="engine unreachable", run=faults.engine_unreachable),
    Kind(name="engine slow", run=faults.engine_slow),
    Kind(name="POST or answer lost", run=faults.post_lost),
    Kind(name="engine killed", run=faults.engine_killed),
    Kind(name="engine killed at POST", run=faults.engine_killed_at_post),
    Kind(name="engine stopped", run=faults.engine_stopped),
    # With the limits that the product has by itself nobody takes that for anything: no prompt is given up.
    Kind(name="engine freezes", run=faults.engine_freezes, settings=AS_SHIPPED, lossy_engine=False),
    TWO_AT_ONCE,
    Kind(
        name="engine of another version",
        run=faults.engine_replaced,
        after=aftermath.the_new_version_counts,
        embedded_only=True,
        settings={"NODES_FRESH_S": "1"},
        refusals=frozenset({"graph_invalid"}),
    ),
    Kind(name="foreign jobs", run=faults.foreign_jobs),
    Kind(name="history evicted", run=faults.history_evicted, history_limit=2),
    Kind(name="bridge killed", run=faults.bridge_killed),
    Kind(name="bridge killed at a call", run=faults.killed_somewhere, chaos=points.a_call, cancels=0.5),
    Kind(name="bridge killed at a line", run=faults.killed_somewhere, chaos=points.a_line, cancels=0.4),
    # The prompt may go on at the engine, or not be found there: only that job may end so.
    Kind(name="defect in one attempt", run=faults.nothing, chaos=points.a_defect, defects=1),
    Kind(name="defect behind a commit", run=faults.nothing, chaos=points.a_defect_behind_a_commit, defects=1),
    Kind(
        name="defect, and more",
        run=faults.any_one,
        chaos=points.a_defect,
        defects=1,
        settings=IMPATIENT,
        refusals=STORE,
    ),
    Kind(name="files on their way", run=file_faults.any_in_an_upload, files=True, cancels=0.3),
    Kind(
        name="files, killed at a call",
        run=faults.killed_somewhere,
        chaos=points.a_file_call,
        files=True,
        cancels=0.3,
        deadlines=0.3,
    ),
    Kind(name="chains", run=faults.nothing, chains=0.8, refusals=TOO_LATE, lossy_engine=False),
    Kind(name="chains, engine killed", run=faults.engine_killed, chains=0.8, refusals=TOO_LATE),
    Kind(name="chains, bridge killed", run=faults.bridge_killed, chains=0.8, refusals=TOO_LATE),
    Kind(
        name="chains, killed at a call",
        run=faults.killed_somewhere,
        chaos=points.a_call,
        chains=0.8,
        cancels=0.5,
        refusals=TOO_LATE,
    ),
    TWO_AT_ONCE,
    # One that is stopped inside a transaction keeps the store to itself meanwhile.
    Kind(
        name="holder paused",
        run=faults.holder_paused,
        more_bridges=(1, 2),
        settings=IMPATIENT,
        refusals=STORE,
    ),
    Kind(
        name="holder paused at a call",
        run=faults.paused_somewhere,
        chaos=points.a_pause,
        more_bridges=(1, 2),
        settings=IMPATIENT,
        refusals=STORE,
    ),
    Kind(name="cancels", run=faults.nothing, cancels=1.0, lossy_engine=False),
    Kind(
        name="submits with one key", run=faults.nothing, keyed=True, more_bridges=(1, 2), lossy_engine=False
    ),
    Kind(name="store locked", run=store_faults.store_locked, settings=IMPATIENT, refusals=STORE),
    Kind(name="disk full", run=store_faults.disk_full, refusals=STORE),
    Kind(name="store read-only", run=store_faults.store_read_only, refusals=STORE),
    Kind(
        name="store damaged",
        run=store_faults.store_damaged,
        after=aftermath.a_new_store_works,
        refusals=DAMAGED,
    ),
    Kind(
        name="store damaged before a start",
        run=store_faults.store_damaged_between,
        after=aftermath.a_new_store_works,
        refusals=DAMAGED,
    ),
    Kind(name="store not to be opened", run=store_faults.store_not_to_be_opened, refusals=NOT_OPEN),
    Kind(name="deadlines", run=faults.any_one, deadlines=0.8, settings=IMPATIENT, refusals=STORE),
    # Nobody takes a job before the engine has been asked for its memory, or has not answered in time.
    Kind(
        name="memory asked for",
        run=faults.any_one,
        settings=IMPATIENT | {"VRAM_HOLD": "true", "SAMPLE_S": "0.2"},
        refusals=STORE,
    ),
    Kind(name="clock jumps", run=store_faults.clock_jumps, bent_clock=True),
    TWO_AT_ONCE,
    Kind(name="outputs deleted", run=faults.nothing, after=aftermath.outputs_deleted, lossy_engine=False),
    Kind(
        name="outputs unreadable",
        run=faults.nothing,
        after=aftermath.outputs_unreadable,
        lossy_engine=False,
        embedded_only=True,
    ),
)

_CLOUD = Kind(
    name="cloud, answers lost",
    run=cloud_faults.answers_lost,
    cloud=True,
    spread_s=2.5,
    settings=cloud_faults.SETTINGS,
    refusals=frozenset({"budget_spent"}),
)
CLOUD_KINDS: tuple[Kind, ...] = (
    _CLOUD,
    replace(_CLOUD, name="cloud, busy", run=cloud_faults.busy),
    replace(_CLOUD, name="cloud, bridge killed", run=cloud_faults.bridge_killed),
    replace(
        _CLOUD, name="cloud, killed at a call", run=cloud_faults.killed_somewhere, chaos=points.a_cloud_call
    ),
)
KINDS += CLOUD_KINDS

OF_FILES = frozenset(
    {
        *("store locked", "disk full", "store read-only", "store damaged"),
        *("store damaged before a start", "store not to be opened"),
    }
)
OF_A_SERVER: tuple[Kind, ...] = (
    Kind(name="store locked", run=server_faults.store_locked, settings=IMPATIENT, refusals=STORE),
    Kind(name="connections dropped", run=server_faults.connections_dropped, refusals=STORE),
    Kind(name="server restarts", run=server_faults.server_restarts, refusals=STORE),
    Kind(name="server stands still", run=server_faults.server_stands_still, refusals=STORE),
    Kind(
        name="holder cut off",
        run=server_faults.holder_cut_off,
        more_bridges=(1, 2),
        settings=IMPATIENT,
        refusals=STORE,
    ),
    Kind(
        name="connections dropped, bridge killed",
        run=server_faults.connections_dropped,
        chaos=points.a_call,
        refusals=STORE,
    ),
)
"""What only PostgreSQL can do."""

SERVER_KINDS: tuple[Kind, ...] = (*(kind for kind in KINDS if kind.name not in OF_FILES), *OF_A_SERVER)
"""With the jobs in PostgreSQL. What is wrong with a file is the server's business there."""

FLEET_KINDS: tuple[Kind, ...] = tuple(
    replace(kind, more_bridges=(2,)) for kind in SERVER_KINDS if kind.after is None and not kind.embedded_only
)
"""With three bridges and several engines on PostgreSQL, of which the faults hit one. Those about what one
engine has, at the end, are not among them."""
