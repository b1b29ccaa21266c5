"""What must be true after a trial: the store against the engine's own record and against what clients heard.

The record (comfy_mcp/embedded/execution_log.py) is written before anybody can hear of a step, so it is the
truth about the engine. What an engine took to its grave nobody can know: a prompt that succeeded, and whose
history was lost before a bridge had read it. Such jobs are counted as `unknowable`, not passed over silently.
"""

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.clients import Clients, Submitted
from tests.support.cloud_service import CloudService
from tests.support.invariants import check_file, check_server

CLOCKS_MS = 5
"""A deadline is kept by the monotonic clock; what is written down is the other one's, in milliseconds."""

LOOK_MS = 1_000
"""From a look that did not find a prompt to the requeue that follows, on a busy machine."""

OUTPUTS = {"picture": 1, "slow": 1, "text": 1, "failing": 0, "file": 1}
"""Outputs of each kind of graph that ran to its end."""


@dataclass(slots=True)
class PromptRecord:
    """`generation` counts the engine's processes; `gone`: that one has ended. `accepted_at` is epoch
    milliseconds."""

    accepted: int = 0
    accepted_at: int = 0
    started: int = 0
    ending: str | None = None
    generation: int = 0
    gone: bool = False


@dataclass(slots=True)
class Outcome:
    """Counts for the table; `violations` is empty when all is well."""

    states: dict[str, int] = field(default_factory=dict)
    causes: dict[str, int] = field(default_factory=dict)
    """Of the failed ones, by kind."""
    requeued: int = 0
    ran_twice: int = 0
    unknowable: int = 0
    violations: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What the trial's faults may lead to, beyond what must always hold."""

    foreign: frozenset[str] = frozenset()
    history_evicted: bool = False
    foreign_deletes: bool = False
    max_attempts: int = 2
    lossy_engine: bool = True
    """A fault lay between bridge and engine, or the engine died: a prompt may have got lost."""
    late_posts: bool = False
    """A POST was held up on its way: it may arrive while the bridge looks for it for the last time."""
    refusals: frozenset[str] = frozenset()
    """Error codes that a client may have met."""
    store_lost: bool = False
    """The store began anew: what was promised before is out of reach, and its prompts are nobody's."""
    defects: int = 0
    """Jobs that may fail as `internal`: a defect was put in for each."""


def read_record(path: Path, start: int = 0, *, pid: int | None = None) -> dict[str, PromptRecord]:
    """From the byte `start` on. `pid`: of the engine that is there at the end, where that is known."""
    records: dict[str, PromptRecord] = {}
    generations: dict[int, int] = {}
    if not path.exists():
        return records
    for line in path.read_bytes()[start:].decode().splitlines():
        step = json.loads(line)
        generation = generations.setdefault(step["pid"], len(generations) + 1)
        record = records.setdefault(step["prompt_id"], PromptRecord())
        record.generation = generation
        match step["what"]:
            case "accepted":
                record.accepted += 1
                record.accepted_at = step["at"]
            case "start":
                record.started += 1
            case ending:
                record.ending = ending
    last = max(generations.values(), default=0) if pid is None else generations.get(pid)
    for record in records.values():
        record.gone = record.generation != last
    return records


def read_cloud_record(store: Path | str, cloud: CloudService) -> dict[str, PromptRecord]:
    """What services ran. Of a job whose id no bridge has written down one of them can't be asked: nobody can
    know what became of it."""
    rows = _rows(store, "SELECT prompt_id FROM attempts WHERE reference IS NOT NULL")
    unfindable = cloud.unfindable({row["prompt_id"] for row in rows})
    records: dict[str, PromptRecord] = {}
    for run in cloud.runs:
        record = records.setdefault(run.prompt_id, PromptRecord(accepted_at=run.created_ms))
        record.accepted += 1
        record.started += 1
        record.ending = "interrupted" if run.cancelled else "success" if run.over else None
        record.gone = run.prompt_id in unfindable
    return records


def check(
    store: Path | str, record: dict[str, PromptRecord], clients: Clients, expected: Expectations
) -> Outcome:
    outcome = Outcome()
    say = outcome.violations.append
    try:
        if isinstance(store, str):
            check_server(store)
        else:
            check_file(store)
    except AssertionError as error:
        say(f"the store breaks an invariant: {error}")
    jobs = _rows(store, "SELECT * FROM jobs")
    attempts: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(store, "SELECT * FROM attempts ORDER BY job_id, attempt"):
        attempts.setdefault(row["job_id"], []).append(row)
    events: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(store, "SELECT * FROM events ORDER BY seq"):
        events.setdefault(row["job_id"], []).append(row)

    _check_promises(jobs, clients, expected, say)
    known = {row["prompt_id"] for rows in attempts.values() for row in rows} | expected.foreign
    for prompt_id, item in record.items():
        if prompt_id not in known and not expected.store_lost:
            say(f"the engine got prompt {prompt_id}, which no attempt names")
        if item.accepted > 1 or item.started > 1:
            say(f"prompt {prompt_id} was sent {item.accepted} times and ran {item.started} times")
        if prompt_id in expected.foreign and item.ending == "interrupted":
            say(f"the foreign prompt {prompt_id} was interrupted")
    _check_chains({job["id"]: job for job in jobs}, attempts, events, say)
    for job in jobs:
        mine = attempts.get(job["id"], [])
        outcome.states[job["status"]] = outcome.states.get(job["status"], 0) + 1
        _check_job(job, mine, events.get(job["id"], []), record, clients, expected, outcome)
    if outcome.causes.get("internal", 0) > expected.defects:
        say(f"{outcome.causes['internal']} jobs failed as internal, with {expected.defects} defects")
    return outcome


def _check_promises(
    jobs: Sequence[dict[str, Any]], clients: Clients, expected: Expectations, say: Any
) -> None:
    ids = {job["id"] for job in jobs}
    for entry in clients.submitted:
        if entry.job_id is not None and entry.job_id not in ids and not expected.store_lost:
            say(f"the submit that returned {entry.job_id} is lost")
    by_key: dict[str, set[str]] = {}
    for key, job_id in clients.answers:
        by_key.setdefault(key, set()).add(job_id)
    for key, found in by_key.items():
        if len(found & ids if expected.store_lost else found) > 1:
            say(f"the idempotency key {key} made {len(found)} jobs")
    keyed = {entry.key for entry in clients.submitted if entry.key is not None}
    if len(ids) > len(keyed) + sum(entry.key is None for entry in clients.submitted):
        say("there are more jobs than submits")
    for fault in clients.faults:
        say(fault)
    for tool, code in clients.refusals:
        if code not in expected.refusals:
            say(f"{tool} was refused with {code}")
    states = {job["id"]: job["status"] for job in jobs}
    heard = [(entry.job_id or "", told) for entry in clients.submitted for told in entry.told]
    for job_id, told in heard + clients.heard:
        if told != states.get(job_id) and not (expected.store_lost and job_id not in ids):
            say(f"a client was told that {job_id} is {told}; it is {states.get(job_id)}")


def _check_chains(
    jobs: dict[str, dict[str, Any]],
    attempts: dict[str, list[dict[str, Any]]],
    events: dict[str, list[dict[str, Any]]],
    say: Any,
) -> None:
    """No engine gets a job before what it waits for has ended, and it fails for that alone if that failed."""
    ends = {
        job_id: row["seq"]
        for job_id, rows in events.items()
        for row in rows
        if row["type"] in {"completed", "failed", "cancelled"}
    }
    for job in jobs.values():
        parents: list[tuple[str, bool, int]] = json.loads(job["after"] or "[]")
        strict = [jobs[parent]["status"] for parent, any_end, _ in parents if not any_end]
        claims = [row["seq"] for row in events.get(job["id"], ()) if row["type"] == "claimed"]
        for parent, _, _ in parents:
            if claims and min(claims) < ends[parent]:
                say(f"job {job['id']} was claimed before {parent} had ended")
        failed = job["status"] == "failed" and json.loads(job["failure"])["kind"] == "parent_failed"
        if failed and (set(strict) <= {"completed"} or attempts.get(job["id"])):
            say(f"job {job['id']} failed for its parents, which are {strict}")
        if set(strict) - {"completed"} and job["status"] not in {"cancelled", "failed"}:
            say(f"job {job['id']} is {job['status']}, and its parents are {strict}")


def _check_job(
    job: dict[str, Any],
    attempts: Sequence[dict[str, Any]],
    events: Sequence[dict[str, Any]],
    record: dict[str, PromptRecord],
    clients: Clients,
    expected: Expectations,
    outcome: Outcome,
) -> None:
    def say(what: str) -> None:
        outcome.violations.append(f"job {job['id']} ({job['status']}): {what}; {_story(attempts, record)}")

    requeues = [row for row in events if row["type"] == "requeued"]
    outcome.requeued += len(requeues)
    seen = [record.get(row["prompt_id"], PromptRecord()) for row in attempts]
    last = seen[-1] if seen else PromptRecord()
    successes = sum(item.ending == "success" for item in seen)
    if successes > 1:
        outcome.ran_twice += 1
    if len(attempts) > len(requeues) + 1:
        say("an attempt was made that no `requeued` event explains")
    for item, requeue in zip(seen, requeues, strict=False):
        # The engine that took it is still the same one, so its queue and history could have been asked.
        kept = item.ending != "deleted"
        if item.accepted and not item.gone and kept and not expected.history_evicted:
            if item.accepted_at <= requeue["at"] - (LOOK_MS if expected.late_posts else 0):
                say("it was sent again although the engine had it")
            else:
                outcome.ran_twice += successes <= 1
    buried = last.ending == "success" and (last.gone or expected.history_evicted)
    asked = any(entry.cancelled for entry in clients.submitted if entry.job_id == job["id"])
    match job["status"]:
        case "completed":
            if last.ending != "success":
                say(f"the engine's record says {last.ending}")
            wanted = OUTPUTS.get(_kind_of(job, clients))
            if job["output_count"] != wanted:
                say(f"{job['output_count']} outputs instead of {wanted}")
        case "cancelled":
            if not asked and not any(entry.job_id is None for entry in clients.submitted):
                say("nobody asked for that")
            if last.ending == "success":
                outcome.unknowable += buried
                if not buried:
                    say("the engine completed it")
        case "failed":
            _check_failure(job, last, buried, clients, expected, outcome, say)
        case state:
            say(f"still {state}")


def _check_failure(
    job: dict[str, Any],
    last: PromptRecord,
    buried: bool,
    clients: Clients,
    expected: Expectations,
    outcome: Outcome,
    say: Any,
) -> None:
    failure = json.loads(job["failure"])
    outcome.causes[failure["kind"]] = outcome.causes.get(failure["kind"], 0) + 1
    for entry in clients.submitted:
        if entry.job_id == job["id"] and set(entry.causes) - {failure["kind"]}:
            say(f"failed as {failure['kind']}, and clients were told {entry.causes}")
    match failure["kind"]:
        case "node_error":
            if _kind_of(job, clients) == "file":
                say(f"the engine could not read its file: {failure['message']}")
            if last.ending != "error":
                say(f"failed as node_error, and the engine's record says {last.ending}")
        case "engine_lost":
            if job["attempt"] < expected.max_attempts:
                say(f"engine_lost after {job['attempt']} of {expected.max_attempts} attempts")
            if not expected.lossy_engine:
                say("engine_lost although no fault touched the engine")
            if last.ending == "success":
                outcome.unknowable += buried
                if not buried:
                    say("engine_lost although the engine completed it and still knows")
        case "missing_input":
            if job["attempt"] < expected.max_attempts or last.accepted:
                say(f"missing_input after {job['attempt']} attempts: {failure['message']}")
            if not expected.lossy_engine or _kind_of(job, clients) not in {"file", "picture"}:
                say("missing_input although no fault touched its file")
        case "cancelled_externally":
            if last.ending == "success" and not buried:
                say("cancelled_externally although the engine completed it and still knows")
            if not (expected.foreign_deletes or expected.history_evicted or last.ending == "interrupted"):
                say("cancelled_externally, and nobody did")
        case "timeout":
            _check_timeout(job, last, buried, outcome, say)
        case "validation":
            # What was submitted was good then, so the engine changed.
            if _kind_of(job, clients) != "slow" or "BridgeSlowImage" not in failure["message"]:
                say(f"failed as validation: {failure['message']}")
            if "graph_invalid" not in expected.refusals or last.accepted:
                say("failed as validation, and no engine refused it")
        case "parent_failed":
            pass  # see _check_chains
        case "internal" if "error id" in failure["message"]:
            pass  # they are counted
        case kind:
            say(f"failed as {kind}: {failure['message']}")


def _check_timeout(job: dict[str, Any], last: PromptRecord, buried: bool, outcome: Outcome, say: Any) -> None:
    """Not before its time, and not while the engine went on to the end."""
    if last.ending == "success":
        outcome.unknowable += buried
        if not buried:
            say("timeout although the engine completed it and still knows")
    deadlines = [job["queue_deadline"]]
    if job["started_at"] is not None and job["run_timeout_ms"] is not None:
        deadlines.append(job["started_at"] + job["run_timeout_ms"])
    passed = [deadline for deadline in deadlines if deadline is not None]
    if not passed or job["finished_at"] + CLOCKS_MS < min(passed):
        say(f"timeout at {job['finished_at']}, with the deadlines {passed}")


def _kind_of(job: dict[str, Any], clients: Clients) -> str:
    """A submit whose answer was lost still made a job; its graph tells of which kind."""
    known: dict[str | None, Submitted] = {entry.job_id: entry for entry in clients.submitted}
    entry = known.get(job["id"])
    if entry is not None:
        return entry.kind
    return "picture"  # every kind that completes has one output


def _story(attempts: Sequence[dict[str, Any]], record: dict[str, PromptRecord]) -> str:
    parts = []
    for row in attempts:
        item = record.get(row["prompt_id"], PromptRecord())
        parts.append(
            f"attempt {row['attempt']} {row['state']} (prompt {row['prompt_id']}, sent {item.accepted}, "
            f"engine {item.generation} said {item.ending})"
        )
    return "; ".join(parts) or "no attempt"


def _rows(store: Path | str, statement: str) -> list[dict[str, Any]]:
    connection = connect(store)
    try:
        cursor = connection.execute(statement)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]
    finally:
        connection.close()


def connect(store: Path | str) -> Any:
    """With the driver that the product uses: two SQLites on one file need not agree on WAL."""
    if isinstance(store, str):
        return psycopg.connect(store, autocommit=True)
    try:
        module = importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        module = importlib.import_module("sqlite3")
    return module.connect(str(store), timeout=5.0, isolation_level=None, check_same_thread=False)
