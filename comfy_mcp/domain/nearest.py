"""The nearest known names to one that is not known, for hints to an agent."""

from collections.abc import Collection

MODEL_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pth", ".pt", ".bin", ".gguf")
_THRESHOLD = 0.5
_CONTAINED = 0.8


def nearest(name: str, known: Collection[str], limit: int = 3) -> tuple[str, ...]:
    """At most `limit` of `known`, the most similar first; empty if none is similar.

    Case, separators, folders' slashes and model suffixes don't count. Cost: one pass, a few µs a name.
    """
    wanted = _plain(name)
    wanted_pairs = _pairs(wanted)
    scored = []
    for candidate in known:
        score = _likeness(wanted, wanted_pairs, _plain(candidate))
        if score >= _THRESHOLD:
            scored.append((-score, candidate))
    return tuple(candidate for _, candidate in sorted(scored)[:limit])


def _plain(name: str) -> str:
    name = name.lower()
    for suffix in MODEL_SUFFIXES:
        name = name.removesuffix(suffix)
    return "".join(filter(str.isalnum, name))


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
