"""Domain values <-> rows. The one place that knows both."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, Self, get_args

from comfy_mcp.domain import large_json
from comfy_mcp.domain.chains import Parent
from comfy_mcp.domain.events import FailureKind, JobEvent, JobFailure, JobQueued, Priority, StoredEvent
from comfy_mcp.domain.extra_data import Submitted
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.needs import NO_WISH, Needs, Wish
from comfy_mcp.domain.spending import Spend
from comfy_mcp.domain.vram import EngineRoom, WaitingFor, WaitReason
from comfy_mcp.domain.webhooks import Webhook
from comfy_mcp.store.connection import AnyRow

_EVENT_TYPES: Mapping[str, type[JobEvent]] = {cls.type: cls for cls in get_args(JobEvent)}
_PAYLOADS: Mapping[str, tuple[tuple[str, ...], Callable[[JobEvent], tuple[Any, ...]]]] = {
    # One value more than names: of a single one there would be no tuple.
    name: (
        names := tuple(each.name for each in fields(cls) if each.name not in {"job_id", "at"}),
        attrgetter(*names, "at"),
    )
    for name, cls in _EVENT_TYPES.items()
}
_PRIORITY_OF_RANK: Mapping[int, Priority] = {priority.rank: priority for priority in Priority}


UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What comes of decoding a row that is damaged, or has a value of a newer version."""


def is_storable(text: str | None) -> bool:
    """Whether it certainly is kept as it is."""
    return text is None or (text.isascii() and "\0" not in text)


def storable(text: str | None) -> str | None:
    """`text` as every database takes it: lone surrogates and NUL become U+FFFD.

    Both reach us through JSON escapes in a graph. JSON columns need none of this, they are ASCII.
    """
    if text is None or is_storable(text):
        return text
    return large_json.with_whole_characters(text).replace("\0", "\ufffd")


# ---------------------------------------------------------------------------- jobs


def job_values(job: Job) -> dict[str, Any]:
    """Every column of `jobs` but seq and share_tag."""
    values: dict[str, Any] = {
        "id": job.id,
        "client": storable(job.client),
        "lane": job.lane,
        "created_at": job.created_at,
        "node_count": job.node_count,
        "queue_timeout_ms": job.queue_timeout_ms,
        "run_timeout_ms": job.run_timeout_ms,
        "retry_of": job.retry_of,
        "retried_by": job.retried_by,
        "shape": job.shape,
        "batch": job.batch,
        "name": storable(job.name),
        "after": _dump(_parents_json(job.after)) if job.after else None,
        "webhook": None if job.webhook is None else _dump(asdict(job.webhook)),
        "tags": _dump(job.tags) if job.tags else None,
    }
    values.update(zip(_AS_THEY_ARE, _plain_of(job), strict=True))
    values |= _USUAL_COLUMNS
    for name, usual, value in zip(_CHANGED, _USUAL, _others_of(job), strict=True):
        if value is not usual:
            values |= _CHANGED[name](name, value)
    return values


def changed_values(before: Job, after: Job) -> dict[str, Any]:
    """The columns in which they differ, of those that an event may change."""
    plain = zip(_AS_THEY_ARE, _plain_of(before), _plain_of(after), strict=True)
    values: dict[str, Any] = {name: new for name, old, new in plain if new != old}
    for name, old, new in zip(_CHANGED, _others_of(before), _others_of(after), strict=True):
        if new != old:
            values |= _CHANGED[name](name, new)
    return values


def _as_text(name: str, value: str | None) -> dict[str, Any]:
    return {name: storable(value)}


def _failure_columns(_name: str, failure: JobFailure | None) -> dict[str, Any]:
    """The kind stands apart too, where a list can filter by it."""
    if failure is None:
        return {"failure": None, "failure_kind": None}
    return {"failure": _dump(_failure_json(failure)), "failure_kind": failure.kind.value}


def _texts_column(name: str, texts: tuple[str, ...]) -> dict[str, Any]:
    return {name: _dump(texts) if texts else None}


def _waiting_columns(_name: str, waiting: WaitingFor | None) -> dict[str, Any]:
    """The time stands apart too, where an index finds it."""
    if waiting is None:
        return {"waiting_for": None, "held_since": None}
    return {"waiting_for": _dump(asdict(waiting)), "held_since": waiting.since}


def _spend_column(name: str, spend: Spend | None) -> dict[str, Any]:
    return {name: None if spend is None else _dump(asdict(spend))}


_AS_THEY_ARE = (
    *("attempt", "engine", "prompt_id", "started_at", "finished_at", "progress", "eta_ms", "progress_at"),
    *("cancel_requested", "output_count", "queue_deadline", "oom_retried", "gpu_seconds", "peak_vram_bytes"),
)
"""Fields of a job that an event may change, and that their columns have as they are."""

_CHANGED: Mapping[str, Callable[[str, Any], dict[str, Any]]] = {
    "priority": lambda name, priority: {name: priority.rank},
    **dict.fromkeys(("current_node", "current_node_title", "cancel_reason", "cancelled_by"), _as_text),
    "status": lambda name, status: {name: status.value},
    "failure": _failure_columns,
    "warnings": _texts_column,
    "waiting_for": _waiting_columns,
    "refused_by": _texts_column,
    "spend": _spend_column,
}
"""The others that an event may change, each with the way to its columns."""

_usual_of = {each.name: each.default for each in fields(Job)}
_USUAL = tuple(_usual_of[name] for name in _CHANGED)
_USUAL_COLUMNS = {
    column: value
    for name, usual in zip(_CHANGED, _USUAL, strict=True)
    if usual is not MISSING
    for column, value in _CHANGED[name](name, usual).items()
}
"""What most new jobs have in them."""

_plain_of = attrgetter(*_AS_THEY_ARE)
_others_of = attrgetter(*_CHANGED)

_integers_of = attrgetter(
    *("created_at", "node_count", "attempt", "started_at", "finished_at", "eta_ms", "output_count"),
    *("queue_timeout_ms", "run_timeout_ms", "queue_deadline", "peak_vram_bytes", "progress_at"),
)
_texts_of = attrgetter(
    *("client", "lane", "engine", "prompt_id", "current_node", "current_node_title", "cancel_reason"),
    *("retry_of", "retried_by", "shape", "batch", "name", "after", "cancelled_by", "webhook"),
    *("spend", "tags"),
)


def job_of(row: AnyRow) -> Job:
    """Raises UNREADABLE: `salvage` makes the best of such a row. SQLite keeps what it gets, of any type."""
    for value in _integers_of(row):
        if value is not None and value.__class__ is not int:
            raise TypeError(value)
    for value in _texts_of(row):
        if value is not None and value.__class__ is not str:
            raise TypeError(value)
    return Job(
        id=row.id,
        client=row.client,
        lane=row.lane,
        priority=_PRIORITY_OF_RANK[row.priority],
        status=JobStatus(row.status),
        created_at=row.created_at,
        node_count=row.node_count,
        attempt=row.attempt,
        engine=row.engine,
        prompt_id=row.prompt_id,
        started_at=row.started_at,
        finished_at=row.finished_at,
        progress=row.progress,
        current_node=row.current_node,
        current_node_title=row.current_node_title,
        eta_ms=row.eta_ms,
        cancel_requested=bool(row.cancel_requested),
        cancel_reason=row.cancel_reason,
        cancelled_by=row.cancelled_by,
        progress_at=row.progress_at,
        failure=None if row.failure is None else _failure_of(json.loads(row.failure)),
        warnings=() if row.warnings is None else _warnings_of(row.warnings),
        output_count=row.output_count,
        queue_timeout_ms=row.queue_timeout_ms,
        run_timeout_ms=row.run_timeout_ms,
        queue_deadline=row.queue_deadline,
        retry_of=row.retry_of,
        retried_by=row.retried_by,
        oom_retried=bool(row.oom_retried),
        gpu_seconds=row.gpu_seconds,
        peak_vram_bytes=row.peak_vram_bytes,
        shape=row.shape,
        batch=row.batch,
        name=row.name,
        after=() if row.after is None else _parents_of(json.loads(row.after)),
        waiting_for=None if row.waiting_for is None else _waiting_of(json.loads(row.waiting_for)),
        refused_by=() if row.refused_by is None else tuple(json.loads(row.refused_by)),
        webhook=None if row.webhook is None else _webhook_of(json.loads(row.webhook)),
        spend=None if row.spend is None else Spend(**json.loads(row.spend)),
        tags=() if row.tags is None else _tags_of(json.loads(row.tags)),
    )


# ---------------------------------------------------------------------------- events


def event_values(event: JobEvent) -> dict[str, Any]:
    """Every column of `events` but seq. The payload leaves out what has a column of its own."""
    payload = {}
    names, values_of = _PAYLOADS[event.type]
    for name, value in zip(names, values_of(event), strict=False):
        if (value is None or value == ()) and name in _SAID_IF_ANY:
            continue  # the usual case, kept short
        payload[name] = value if value.__class__ in _PLAIN else _plain(value)
    if isinstance(event, JobQueued) and event.after:
        payload["after"] = _parents_json(event.after)
    return {"job_id": event.job_id, "type": event.type, "at": event.at, "payload": _dump(payload)}


_SAID_IF_ANY = frozenset(
    (*("gpu_use", "ran_ms", "shape", "batch", "name", "webhook", "spend"), *("warnings", "after", "tags"))
)
_PLAIN = frozenset((str, int, float, bool, type(None)))


def stored_event_of(row: AnyRow) -> StoredEvent:
    """Raises UNREADABLE."""
    values = json.loads(row.payload)
    for name, read in _READ.items():
        if values.get(name) is not None:
            values[name] = read(values[name])
    event = _EVENT_TYPES[row.type](job_id=row.job_id, at=row.at, **values)
    return StoredEvent(seq=row.seq, event=event)


# ---------------------------------------------------------------------------- outputs, graphs


def graph_of(text: str) -> dict[str, Any]:
    graph: dict[str, Any] = large_json.loads(text)
    return graph


@dataclass(frozen=True, slots=True)
class Texts:
    """What is kept of a submit, as the store writes it. Keys keep their order, for those who read it."""

    graph: str
    submitted: str | None = None

    @classmethod
    def of(cls, graph: Mapping[str, Any], submitted: Submitted | None, *, large: bool = False) -> Self:
        text = large_json.dumps(graph, large=large)
        if submitted is None:
            return cls(text)
        kept: dict[str, object] = {"file": submitted.file, "may_spend": submitted.may_spend}
        if submitted.save_to is not None:
            kept["save_to"] = submitted.save_to
        return cls(text, large_json.dumps(kept, large=large))

    @property
    def size(self) -> int:
        """Bytes: both are ASCII."""
        return len(self.graph) + len(self.submitted or "")


def needs_text(needs: Needs | None) -> str | None:
    """What is usual is left out."""
    if needs is None:
        return None
    wish = needs.wish
    values: dict[str, Any] = {"nodes": needs.node_classes, "models": needs.models}
    more: dict[str, Any] = {"files": needs.files, "brings": needs.brings}
    more |= {"engine": wish.engine, "labels": wish.labels, "not_on": wish.not_on}
    return _dump(values | {name: value for name, value in more.items() if value})


@lru_cache(1024)
def needs_of(text: str, memory: int | None = None) -> Needs:
    """Its shape is with the job."""
    values = json.loads(text)
    wish = Wish(
        engine=values.get("engine"),
        labels=tuple(values.get("labels", ())),
        not_on=tuple(values.get("not_on", ())),
    )
    return Needs(
        node_classes=tuple(values["nodes"]),
        models=tuple(values["models"]),
        shape="",
        files=tuple(values.get("files", ())),
        wish=wish or NO_WISH,
        brings=values.get("brings", False),
        memory=memory,
    )


def submitted_of(text: str | None) -> Submitted | None:
    return None if text is None else Submitted(**json.loads(text))


def _plain(value: object) -> object:
    match value:
        case JobFailure():
            return _failure_json(value)
        case GpuUse():
            return {name: each for name, each in asdict(value).items() if each is not None}
        case WaitingFor() | Webhook() | Spend():
            return asdict(value)
        case _:
            return value


def _waiting_of(values: Mapping[str, Any]) -> WaitingFor:
    return WaitingFor(
        reason=WaitReason(values["reason"]),
        since=values["since"],
        need_bytes=values["need_bytes"],
        engines=tuple(
            EngineRoom(**{**each, "engine": EngineId(each["engine"])}) for each in values["engines"]
        ),
    )


def _parents_json(after: Sequence[Parent]) -> list[list[object]]:
    return [[parent.id, parent.any_end, parent.outputs] for parent in after]


def _parents_of(values: Sequence[Sequence[Any]]) -> tuple[Parent, ...]:
    return tuple(
        Parent(id=JobId(job_id), any_end=any_end, outputs=outputs) for job_id, any_end, outputs in values
    )


def _webhook_of(values: Mapping[str, Any]) -> Webhook:
    return Webhook(url=values["url"], events=tuple(values["events"]))


def _tags_of(values: Sequence[Sequence[Any]]) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(value)) for name, value in values)


def _warnings_of(text: str) -> tuple[str, ...]:
    return tuple(str(each) for each in json.loads(text))


def _failure_json(failure: JobFailure) -> dict[str, Any]:
    return {
        "kind": failure.kind.value,
        "message": failure.message,
        "node_id": failure.node_id,
        "node_type": failure.node_type,
        "detail": failure.detail,
    }


def _failure_of(values: Mapping[str, Any]) -> JobFailure:
    return JobFailure(**{**values, "kind": FailureKind(values["kind"])})


_READ: Mapping[str, Callable[[Any], object]] = {
    "priority": Priority,
    "cause": FailureKind,
    "failure": _failure_of,
    "gpu_use": lambda values: GpuUse(**values),
    "waiting_for": _waiting_of,
    "webhook": _webhook_of,
    "spend": lambda values: Spend(**values),
    "tags": _tags_of,
    "after": _parents_of,
    "warnings": tuple,
}
"""What of an event's payload is no plain value."""

_dump = json.JSONEncoder(separators=(",", ":")).encode
