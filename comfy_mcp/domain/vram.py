"""How much GPU memory workflows of a kind needed, and which engine has room for one. Bytes throughout.

One unit on both sides: what an engine's torch has reserved (`torch_vram_total` of its
/system_stats). What a run needed is the most that its engine's torch held meanwhile; the room of an engine is
its device without what *others* use of it. What its own torch holds counts as room: ComfyUI unloads models of
earlier prompts by itself before it asks for more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from comfy_mcp.domain.gpu import EngineVram, GpuSample
from comfy_mcp.domain.ids import EngineId

KEPT_PEAKS = 16
"""Runs of a shape that are remembered, the newest."""

SLACK = 0.05
"""Of an engine's device: who is short by less is not short. ComfyUI keeps models loaded as long as they fit,
so a run can have held nearly all of it without needing the last part."""

NEWS_SHARE = 0.05
"""Of an engine's device: the free memory in a waiting job's reason is updated once it has changed by this."""

UNLIMITED = 2**63 - 1

_GIB = 2**30


def need_of(peaks: Sequence[int]) -> int | None:
    """The memory that a shape needs: the lower quartile of its last peaks. None: no run yet.

    A peak errs upwards often, by models that earlier jobs left loaded, and downwards seldom, by a sample that
    missed it. Too high an answer holds jobs for nothing; too low a one lets ComfyUI sort it out, as ever. So
    three in four may be too high, and one in four too low.
    """
    return sorted(peaks)[(len(peaks) - 1) // 4] if peaks else None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRoom:
    """The memory that an engine could use on its device now, and the device's total."""

    engine: EngineId
    room_bytes: int
    total_bytes: int

    @property
    def limit(self) -> int:
        return self.room_bytes + round(SLACK * self.total_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """All engines that answer. `open`: one of them works without a GPU, or does not say enough of it, and
    so may take anything."""

    engines: tuple[EngineRoom, ...] = ()
    open: bool = False

    @property
    def most(self) -> EngineRoom | None:
        """The engine with the most room."""
        return max(self.engines, key=lambda each: each.limit, default=None)

    @property
    def ceiling(self) -> int:
        """What the greatest device has. Nobody waits for more than that: ComfyUI works with what there is."""
        return max((each.total_bytes for each in self.engines), default=0)

    def lacks(self, need: int | None) -> bool:
        """Whether there is an engine that could have room for `need` bytes, and now none that has."""
        if need is None or self.open or self.most is None:
            return False
        return self.most.limit < need <= self.ceiling

    def exceeds(self, need: int | None) -> bool:
        """Whether `need` bytes are more than any engine has at all."""
        return need is not None and not self.open and bool(self.engines) and need > self.ceiling


def rooms_of(sample: GpuSample) -> Rooms:
    """From the engines' /system_stats. An engine with several devices uses the one with most room."""
    rooms: dict[EngineId, EngineRoom] = {}
    unknown: set[str] = set(sample.without_gpu)
    for vram in sample.engines:
        room = _room_of(vram)
        if room is None:
            unknown.add(vram.engine)
        elif (known := rooms.get(room.engine)) is None or known.room_bytes < room.room_bytes:
            rooms[room.engine] = room
    return Rooms(
        engines=tuple(rooms[engine] for engine in sorted(rooms) if engine not in unknown),
        open=bool(unknown),
    )


def _room_of(vram: EngineVram) -> EngineRoom | None:
    """None where it does not say enough. `vram_free` includes `torch_free` (ComfyUI's get_free_memory)."""
    total, free = vram.vram_total_bytes, vram.vram_free_bytes
    held, slack = vram.torch_total_bytes, vram.torch_free_bytes
    if total is None or free is None or held is None or slack is None or held > total:
        return None
    room = min(total, max(0, free - slack) + held)
    return EngineRoom(engine=EngineId(vram.engine), room_bytes=room, total_bytes=total)


def held_by(sample: GpuSample, engine: EngineId) -> int | None:
    """What the engine's torch has reserved, on the device where that is most. None: unknown."""
    held = [each.torch_total_bytes for each in sample.engines if each.engine == engine]
    return max((each for each in held if each is not None), default=None)


class WaitReason(StrEnum):
    """Reasons to hold a queued job."""

    VRAM = "vram"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingFor:
    """Why a queued job is passed over. `since` is epoch ms; `engines` could have room for it and have not."""

    since: int
    need_bytes: int
    engines: tuple[EngineRoom, ...]
    reason: WaitReason = WaitReason.VRAM

    @property
    def free_bytes(self) -> int:
        """The most that any of the engines has."""
        return max((each.room_bytes for each in self.engines), default=0)

    @property
    def sentence(self) -> str:
        return f"Similar workflows needed {gib(self.need_bytes)} of VRAM; {_rooms_text(self.engines)}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What one engine may take now. `due`: who has been held since then, or for longer, goes all the same."""

    engine: EngineId
    rooms: Rooms
    due: int = -1

    @property
    def limit(self) -> int:
        """The engine takes what needs no more than this. Without a word from it, that is everything."""
        own = next((each.limit for each in self.rooms.engines if each.engine == self.engine), None)
        return UNLIMITED if own is None else own

    @property
    def most(self) -> int:
        """A job that needs more than this fits no engine."""
        best = self.rooms.most
        return UNLIMITED if self.rooms.open or best is None else best.limit

    def admits(self, need: int | None, held_since: int | None) -> bool:
        if need is None or need <= self.limit or need > self.rooms.ceiling:
            return True
        return held_since is not None and held_since <= self.due

    def wait(self, need: int | None, *, now: int, before: WaitingFor | None) -> WaitingFor | None:
        """What a job that was passed over waits for. None: for its turn only. `before` is the last answer,
        and stays the answer while it is close enough."""
        if need is None or not self.rooms.lacks(need):
            return None
        able = tuple(each for each in self.rooms.engines if each.total_bytes >= need)
        fresh = WaitingFor(since=now if before is None else before.since, need_bytes=need, engines=able)
        return before if before is not None and _alike(before, fresh) else fresh


def _alike(before: WaitingFor, now: WaitingFor) -> bool:
    if before.need_bytes != now.need_bytes or _devices(before) != _devices(now):
        return False
    return all(
        abs(old.room_bytes - new.room_bytes) < NEWS_SHARE * new.total_bytes
        for old, new in zip(before.engines, now.engines, strict=True)
    )


def _devices(waiting: WaitingFor) -> list[tuple[EngineId, int]]:
    return [(each.engine, each.total_bytes) for each in waiting.engines]


def warning_of(need: int | None, rooms: Rooms, *, holds: bool) -> str | None:
    """The warning for a submit that needs more memory than is free. `holds`: the job will be held."""
    if need is None or not (rooms.lacks(need) or rooms.exceeds(need)):
        return None
    said = f"Similar workflows needed {gib(need)} of VRAM; {_rooms_text(rooms.engines)}."
    if holds and rooms.lacks(need):
        return f"{said} It waits until an engine has enough."
    return f"{said} It may be slow or run out of memory."


def _rooms_text(engines: Iterable[EngineRoom]) -> str:
    return ", ".join(
        f"{each.engine} has {gib(each.room_bytes)} of {gib(each.total_bytes)}" for each in engines
    )


def gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"
