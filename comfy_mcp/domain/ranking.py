"""Which of many short texts answer a question best: BM25 over their words."""

import math
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_SATURATION, _LENGTH = 1.2, 0.5
"""BM25's k1 and b: how fast a repeated word stops counting, and how much a long text loses."""

MAX_WORDS = 50
"""Words of a question that count, and MAX_TEXT those of a text."""
MAX_TEXT = 400

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\dA-Za-z_]+")
_ENDINGS = ("ation", "ings", "ing", "ers", "er", "ed", "es", "e", "s")
_SAY_NOTHING = (
    "a an and any are as at be by can do does find for from has have how i in is it make me my need node "
    "nodes of on or please some that the there this to use using want what which with workflow workflows you"
)
_EMPTY = frozenset(_SAY_NOTHING.split())


class Index(Generic[K]):
    """Texts by key. A text is a sequence of parts with weights: a title counts more than a description."""

    def __init__(self, texts: Mapping[K, Sequence[tuple[str, int]]]) -> None:
        self._counts: dict[K, Counter[str]] = {}
        for key, parts in texts.items():
            counts: Counter[str] = Counter()
            for part, weight in parts:
                for word in words_of(part)[:MAX_TEXT]:
                    counts[word] += weight
            self._counts[key] = counts
        self._lengths = {key: counts.total() for key, counts in self._counts.items()}
        self._mean = sum(self._lengths.values()) / max(1, len(self._lengths)) or 1.0
        self._found_in = Counter(word for counts in self._counts.values() for word in counts)

    def search(self, question: str) -> list[tuple[float, K]]:
        """Score and key of each text that has a word of the question, the best first."""
        asked = [word for word in dict.fromkeys(words_of(question)[:MAX_WORDS]) if word in self._found_in]
        rarity = {word: math.log(1 + len(self._counts) / self._found_in[word]) for word in asked}
        found = [(self._score(key, rarity), key) for key in self._counts]
        return sorted((each for each in found if each[0] > 0), key=lambda each: -each[0])

    def unknown(self, question: str) -> list[str]:
        """The words of the question that no text has, as they were written."""
        asked = dict.fromkeys(word for word in _WORD.findall(question) if word.lower() not in _EMPTY)
        return [word for word in list(asked)[:MAX_WORDS] if _stem(word.lower()) not in self._found_in]

    def _score(self, key: K, rarity: Mapping[str, float]) -> float:
        counts = self._counts[key]
        length = 1 - _LENGTH + _LENGTH * self._lengths[key] / self._mean
        return sum(
            rare * counts[word] * (_SATURATION + 1) / (counts[word] + _SATURATION * length)
            for word, rare in rarity.items()
            if counts[word]
        )


def words_of(text: str) -> list[str]:
    """In lower case, without their endings and without the words that say nothing."""
    return [_stem(word) for word in map(str.lower, _WORD.findall(text)) if word not in _EMPTY]


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word
