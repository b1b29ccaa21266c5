"""The places of one lane: which of them a question or a job goes to."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from comfy_mcp.domain.errors import EngineFault, EngineUnreachable
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.needs import Equipment
from comfy_mcp.places.protocol import ADD_ONE, Place

P = TypeVar("P", bound=Place)


class Pool(Mapping[EngineId, P]):
    """Places by their engine, in the order of the settings. It may be empty."""

    def __init__(self, places: Sequence[P] = ()) -> None:
        self._places = {place.engine: place for place in places}

    def become(self, places: Sequence[P]) -> None:
        """These are the places from now on."""
        self._places = {place.engine: place for place in places}

    def __getitem__(self, engine: EngineId) -> P:
        return self._places[engine]

    def __iter__(self) -> Iterator[EngineId]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def all(self) -> Sequence[P]:
        return tuple(self._places.values())

    async def first(self) -> P:
        """The first that answers now; the last one is not asked, for there is no other.

        Raises EngineUnreachable where the pool is empty.
        """
        if not self._places:
            raise EngineUnreachable("There is no engine.", next_step=ADD_ONE)
        *others, last = self.all()
        for place in others:
            try:
                await place.health()
            except EngineFault:
                continue
            return place
        return last


def equipment_of(place: Place) -> Equipment:
    """What the engine has, as far as is known, without asking it."""
    return Equipment(engine=place.engine, nodes=place.known_nodes, labels=place.labels)
