"""The nearest known names to one that is not known, for hints to an agent."""

from collections.abc import Collection, Iterable
from itertools import islice

from comfy_mcp.domain.catalog import without_model_suffix

_THRESHOLD = 0.5
_CONTAINED = 0.8

MAX_COMPARED = 20_000
"""Names that one report compares in all: less than 0.1 s."""
MOST_NAMES = 5_000
"""Names that one hint compares."""
LONGEST = 80
"""Characters of a name that are compared."""


class Hints:
    """Finds the nearest names for one report: MAX_COMPARED comparisons in all, then no more hints."""

    def __init__(self) -> None:
        self._left = MAX_COMPARED
        self._plain: dict[str, str] = {}

    def nearest(self, name: str, known: Iterable[object]) -> tuple[str, ...]:
        """As `nearest`. Of a longer list the first MOST_NAMES are compared."""
        some = [str(each) for each in islice(known, min(MOST_NAMES, self._left))]
        self._left -= len(some)
        whole = {each[:LONGEST]: each for each in reversed(some)}
        return tuple(whole[each] for each in nearest(name[:LONGEST], whole, plain=self._plain))


def nearest(
    name: str, known: Collection[str], limit: int = 3, *, plain: dict[str, str] | None = None
) -> tuple[str, ...]:
    """At most `limit` of `known`, the most similar first; empty if none is similar.

    Case, separators, folders' slashes and model suffixes don't count; `++` is `pp`, as engines write it.
    Cost: one pass, a few µs a name. `plain` keeps what of a name is compared, for the next call.
    """
    wanted = _plain(name)
    wanted_pairs = _pairs(wanted)
    plain = {} if plain is None else plain
    scored = []
    for candidate in known:
        text = plain.get(candidate)
        if text is None:
            text = plain[candidate] = _plain(candidate)
        score = _likeness(wanted, wanted_pairs, text)
        if score >= _THRESHOLD:
            scored.append((-score, candidate))
    return tuple(candidate for _, candidate in sorted(scored)[:limit])


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, without_model_suffix(name).lower().replace("++", "pp")))


def _pairs(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1)}


def _likeness(wanted: str, wanted_pairs: set[str], candidate: str) -> float:
    """1 for the same, Dice's coefficient over letter pairs otherwise, more where one holds the other."""
    if wanted == candidate:
        return 1.0
    pairs = _pairs(candidate)
    total = len(wanted_pairs) + len(pairs)
    dice = 2 * len(wanted_pairs & pairs) / total if total else 0.0
    shorter, longer = sorted((wanted, candidate), key=len)
    if len(shorter) >= 3 and shorter in longer:
        return max(dice, _CONTAINED + 0.1 * dice)
    return min(dice, 0.99)
