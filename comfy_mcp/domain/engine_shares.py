"""How bridges that have the same engines share them: as many each, or one more.

Every bridge decides for itself, by what it last saw of the others, which may be out of date. So nothing here
has to be decided together: a bridge takes engines that nobody drives, and gives up what is beyond its share.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineShares:
    """`held`: how many engines each bridge drives of those that all of them have. `free`: how many nobody
    does. `me` is one of the bridges."""

    me: str
    held: Mapping[str, int]
    free: int

    def may_take(self, *, waited: bool) -> bool:
        """One engine more. What goes beyond an equal part is left to a bridge that has less, unless this one
        has `waited` for that bridge to take it."""
        mine, (least, most) = self.held[self.me], self._part
        return mine < least or (mine < most and (waited or not self._someone_has_less))

    @property
    def excess(self) -> int:
        """How many engines to give up: those beyond the largest part; or one, for a bridge that has less than
        an equal part while nothing is free. Of several that could do that, one does."""
        mine, (least, most) = self.held[self.me], self._part
        if mine > most:
            return mine - most
        richest = max(self.held, key=lambda bridge: (self.held[bridge], bridge))
        return int(mine > least and not self.free and self._someone_has_less and richest == self.me)

    @property
    def _part(self) -> tuple[int, int]:
        """What each bridge has at least and at most, if they are shared equally."""
        least, more = divmod(self.free + sum(self.held.values()), len(self.held))
        return least, least + bool(more)

    @property
    def _someone_has_less(self) -> bool:
        return min(self.held.values()) < self._part[0]
