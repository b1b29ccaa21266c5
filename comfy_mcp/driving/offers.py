"""Room for jobs that an engine has offered to the store, until it is known what was claimed with it."""

from collections.abc import Callable, Collection, Iterable

from comfy_mcp.domain.ids import PromptId
from comfy_mcp.driving.fleet import Choice
from comfy_mcp.places.protocol import Runner
from comfy_mcp.store import ClaimOffer, Lease


class Offers:
    """Whoever gets the store's answer says so (`answered`). An offer without one, because something raised
    behind the commit, or the database did not say whether it committed, is looked up before the next."""

    def __init__(self, lease: Lease, lane: str, place: Runner, new_id: Callable[[], str]) -> None:
        self._lease = lease
        self._lane = lane
        self._place = place
        self._new_id = new_id
        self._open: set[PromptId] = set()

    def make(self, chooser: Choice | None = None) -> ClaimOffer:
        """Room for a job that is about to be written, or for the one that `chooser` chooses."""
        offer = ClaimOffer(
            lease=self._lease,
            prompt_id=PromptId(self._new_id()),
            lane=self._lane,
            stream_id=self._place.stream_id,
            chooser=chooser,
        )
        self._open.add(offer.prompt_id)
        return offer

    def answered(self, offer: ClaimOffer) -> None:
        """It is known what was claimed with the offer, if anything."""
        self._open.discard(offer.prompt_id)

    @property
    def unheard(self) -> Collection[PromptId]:
        """Their claims may be written, and nobody has sent their prompts."""
        return frozenset(self._open)

    def looked_up(self, asked: Collection[PromptId], left: Iterable[PromptId | None]) -> None:
        """Of those that were `asked` for, `left` are written and wait to be sent."""
        self._open -= frozenset(asked)
        self._open.update(each for each in left if each is not None)
