"""The node lists of all engines, and what they have together."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType

from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.object_info import ClassInfo, ObjectInfo


class NodeLists(Mapping[EngineId, ObjectInfo]):
    """By engine, in the order of the settings. It may be empty."""

    def __init__(self, lists: Mapping[EngineId, ObjectInfo]) -> None:
        self._lists = dict(lists)

    def __getitem__(self, engine: EngineId) -> ObjectInfo:
        return self._lists[engine]

    def __iter__(self) -> Iterator[EngineId]:
        return iter(self._lists)

    def __len__(self) -> int:
        return len(self._lists)

    def same_as(self, lists: Mapping[EngineId, ObjectInfo]) -> bool:
        """Whether the engines are these and none has given another list since."""
        return [*self] == [*lists] and all(self[engine] is info for engine, info in lists.items())

    @cached_property
    def all(self) -> ObjectInfo | None:
        """What some engine has: to search in, and to choose from. None: no list is known. That one engine has
        all that a workflow needs of it is judged by the lists themselves."""
        infos = tuple({id(info): info for info in self._lists.values()}.values())
        if len(infos) < 2:
            return infos[0] if infos else None
        classes = dict(infos[0].classes)
        for info in infos[1:]:
            for name, known in info.classes.items():
                classes[name] = _joined(classes[name], known) if name in classes else known
        partners = {name: price for info in reversed(infos) for name, price in info.partner_classes.items()}
        return ObjectInfo(
            classes=MappingProxyType(classes),
            given_kinds=_union(info.given_kinds for info in infos),
            replaced=_union(info.replaced for info in infos),
            partner_classes=MappingProxyType(partners),
            model_files=_union(info.model_files for info in infos),
        )


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)


def _joined(first: ClassInfo, second: ClassInfo) -> ClassInfo:
    """The first, with the options that only the second lists."""
    longer = {}
    for name, spec in first.inputs.items():
        other = second.inputs.get(name)
        more = () if other is None else tuple(each for each in other.options or () if not spec.lists(each))
        if more and spec.options is not None and not spec.dynamic:
            longer[name] = spec.with_options((*spec.options, *more))
    return replace(first, inputs=MappingProxyType({**first.inputs, **longer})) if longer else first


def as_it_was(age_s: float) -> str:
    """Of what is shown although nobody confirms it now."""
    return f"this is what was there {in_words(age_s)} ago."


def in_words(age_s: float) -> str:
    return f"{age_s:.0f} s" if age_s < 120 else f"{age_s / 60:.0f} min"
