"""What a node class declares as its inputs, from GET /object_info, in both generations of declarations.

One declaration is `[type, options]` under its name. Newer ones grow inputs of their own, which a graph names
with dots: the choice "h264" of a dynamic combo `codec` brings `codec.encoding`; an autogrow input `images`
brings `images.image0`, `images.image1`, …. A custom pack's list may bring inputs without dots (`formats` of
VideoHelperSuite). `active` says which inputs a node has, given its values.

A declaration of a shape that this code doesn't know is kept as known to be unknown (`type` is None): links
are followed, values are not judged.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

MAX_SLOTS = 200
"""Most inputs that one autogrow input is opened to; ComfyUI itself allows 100."""
MAX_DEPTH = 8
"""Most levels that dynamic inputs are nested; ComfyUI's own classes use three."""

SHORT_LIST = 50
"""Options of a list that is looked through as it is."""

_DYNAMIC_COMBO, _AUTOGROW, _SLOT = "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3", "COMFY_DYNAMICSLOT_V3"
MATCH_TYPE = "COMFY_MATCHTYPE_V3"
"""An input that takes links of one type, which the first of them decides."""
_DYNAMIC = re.compile(r"COMFY_.*_V[0-9]+")
_OWN_VALIDATION: Mapping[str, frozenset[str]] = MappingProxyType({"LoadLatent": frozenset({"latent"})})
"""Inputs of core classes that the engine validates itself and whose options don't show it (0.3.75)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """One declared input; `name` as a graph names it, with the names of what it grew from.

    `type` is None where the declaration is not understood: then only links are followed.
    `kind` is the type as declared ("COMBO" for a list), by which the editor chooses its control; `extra` are
    the declared options.
    `options` is a combo's list, else None; `known` has them again where the list is long.
    `strict_options`: the engine is known to refuse other values.
    `multiple`: a list of options is a value too. `minimum` and `maximum` hold for numbers.
    `dynamic`: grows inputs of its own: `choices` by the key of a dynamic combo, `slots` of an autogrow input,
    `behind` a slot once it is given; none of the three where the declaration is not understood. A custom
    pack's list has `choices` without being dynamic: the engine knows nothing of them.
    """

    name: str
    required: bool
    type: str | None
    options: tuple[object, ...] | None = None
    strict_options: bool = False
    multiple: bool = False
    minimum: float | None = None
    maximum: float | None = None
    dynamic: bool = False
    kind: str | None = field(default=None, compare=False)
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    known: frozenset[object] | None = field(default=None, compare=False, repr=False)
    choices: Mapping[str, tuple["InputSpec", ...]] | None = field(default=None, compare=False, repr=False)
    slots: tuple["InputSpec", ...] = field(default=(), compare=False, repr=False)
    behind: tuple["InputSpec", ...] = field(default=(), compare=False, repr=False)
    names_file: bool = field(init=False, compare=False, repr=False)
    """An option of it says that it names a file."""

    def __post_init__(self) -> None:
        said = any(value for key, value in self.extra.items() if _says_file(key))
        object.__setattr__(self, "names_file", said)

    @property
    def default(self) -> object:
        """The value that the class states, or the first of its options; None without either."""
        listed = self.options or ()
        return self.extra.get("default", listed[0] if listed else None)

    def lists(self, value: object) -> bool:
        """Whether `value` is one of the options."""
        if self.known is None:
            return value in (self.options or ())
        return not isinstance(value, list | dict) and value in self.known

    def with_options(self, options: tuple[object, ...]) -> "InputSpec":
        return replace(self, options=options, known=_looked_up(options))

    @property
    def unread(self) -> bool:
        """It grows inputs that can't be known: its dynamic kind or its declaration is not understood."""
        return self.dynamic and self.choices is None and not self.slots and not self.behind

    @property
    def may_grow(self) -> bool:
        """The list shows what was there at the time; an upload or another server may add to it."""
        return any(value for key, value in self.extra.items() if _adds_options(key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The class that is read.

    `certain`: it is the engine's own, so it is checked by what it declares and by nothing else.
    `checks_combos`: the engine refuses values that are not in a list of the new spelling. ComfyUI 0.33.0
    does, 0.3.75 does not; they differ in what else a class says, such as `has_intermediate_output`.
    """

    name: str
    certain: bool
    checks_combos: bool = False


def read_inputs(owner: Owner, declared: Mapping[str, Any]) -> tuple[InputSpec, ...]:
    """`declared` is the `input` of a class; required ones first, each name once. Never raises."""
    return _section(owner, declared, prefix="", depth=0)


def active(specs: tuple[InputSpec, ...], values: Mapping[str, object]) -> Iterator[InputSpec]:
    """The inputs of a node that has `values`, each before what it grows.

    A dynamic combo's children depend on the value that `values` has for it when the next input is asked for,
    so a reader may fill in `values` while it walks.
    """
    for spec in specs:
        yield spec
        if spec.choices is not None:
            key = values.get(spec.name)
            yield from active(spec.choices.get(key, ()) if isinstance(key, str) else (), values)
        elif spec.behind:
            yield from active(spec.behind if spec.name in values else (), values)
        elif spec.slots:
            yield from active(spec.slots, values)


def _section(owner: Owner, declared: object, *, prefix: str, depth: int) -> tuple[InputSpec, ...]:
    found: dict[str, InputSpec] = {}
    for section in ("required", "optional"):
        group = declared.get(section) if isinstance(declared, Mapping) else None
        for key, raw in group.items() if isinstance(group, Mapping) else ():
            needed = section == "required"
            found.setdefault(str(key), _input(owner, f"{prefix}{key}", raw, required=needed, depth=depth))
    return tuple(found.values())


def _input(owner: Owner, name: str, raw: object, *, required: bool, depth: int) -> InputSpec:
    if not isinstance(raw, list | tuple) or not raw or depth > MAX_DEPTH:
        return InputSpec(name=name, required=required, type=None)
    kind = raw[0]
    extra = raw[1] if len(raw) > 1 and isinstance(raw[1], Mapping) else {}
    if isinstance(kind, list | tuple):
        return _combo(owner, name, tuple(kind), extra, required=required, listed=True)
    if not isinstance(kind, str):
        return InputSpec(name=name, required=required, type=None, extra=extra)
    if kind == "COMBO":
        options = extra.get("options")
        known = tuple(options) if isinstance(options, list | tuple) else None
        return _combo(owner, name, known, extra, required=required, listed=False)
    if _DYNAMIC.fullmatch(kind) and kind != MATCH_TYPE:
        return _dynamic(owner, name, kind, extra, required=required, depth=depth)
    return InputSpec(
        name=name,
        required=required,
        type=kind,
        minimum=_number(extra.get("min")),
        maximum=_number(extra.get("max")),
        kind=kind,
        extra=extra,
    )


def _combo(
    owner: Owner,
    name: str,
    options: tuple[object, ...] | None,
    extra: Mapping[str, Any],
    *,
    required: bool,
    listed: bool,
) -> InputSpec:
    """`listed`: the old spelling, a list in place of the type."""
    may_grow = any(value for key, value in extra.items() if _adds_options(key))
    options = None if may_grow and not listed else options
    own = owner.certain and name not in _OWN_VALIDATION.get(owner.name, ())
    return InputSpec(
        name=name,
        required=required,
        type="COMBO",
        options=options,
        known=_looked_up(options or ()),
        strict_options=(listed or owner.checks_combos) and own and not may_grow,
        multiple=extra.get("multiselect") is True,
        kind="COMBO",
        extra=extra,
        choices=_formats(owner, extra.get("formats")),
    )


def _formats(owner: Owner, declared: object) -> Mapping[str, tuple[InputSpec, ...]] | None:
    """VideoHelperSuite: by option of the list, the inputs that it brings, each `[name, type, options]`."""
    if not isinstance(declared, Mapping):
        return None
    return {
        option: tuple(
            _input(owner, each[0], each[1:], required=False, depth=MAX_DEPTH)
            for each in brought
            if isinstance(each, list) and each and isinstance(each[0], str)
        )
        for option, brought in declared.items()
        if isinstance(option, str) and isinstance(brought, list)
    } or None


def _dynamic(
    owner: Owner, name: str, kind: str, extra: Mapping[str, Any], *, required: bool, depth: int
) -> InputSpec:
    """An input of a dynamic kind; one that is not known by name grows nothing that is known."""
    choices: Mapping[str, tuple[InputSpec, ...]] | None = None
    slots: tuple[InputSpec, ...] = ()
    behind: tuple[InputSpec, ...] = ()
    if kind == _DYNAMIC_COMBO and isinstance(extra.get("options"), list):
        choices = _choices(owner, name, extra["options"], depth)
    elif kind == _AUTOGROW:
        slots = _slots(owner, name, extra.get("template"), required=required, depth=depth)
    elif kind == _SLOT:
        behind = _section(owner, extra.get("inputs"), prefix=f"{name}.", depth=depth + 1)
    return InputSpec(
        name=name,
        required=required,
        type=None if choices is None else "COMBO",
        options=None if choices is None else tuple(choices),
        # No version checks it: the node then fails when it runs, for want of what the choice brings.
        strict_options=choices is not None and owner.certain,
        dynamic=True,
        kind=kind,
        extra=extra,
        choices=choices,
        slots=slots,
        behind=behind,
    )


def _choices(owner: Owner, name: str, options: list[Any], depth: int) -> Mapping[str, tuple[InputSpec, ...]]:
    return {
        option["key"]: _section(owner, option.get("inputs"), prefix=f"{name}.", depth=depth + 1)
        for option in options
        if isinstance(option, Mapping) and isinstance(option.get("key"), str)
    }


def _slots(owner: Owner, name: str, template: object, *, required: bool, depth: int) -> tuple[InputSpec, ...]:
    """The slots of an autogrow input: all that it may have, of which the first `min` are required."""
    if not isinstance(template, Mapping):
        return ()
    section = template.get("input")
    one = _section(owner, section, prefix="", depth=depth + 1)
    if len(one) != 1:
        return ()
    names, prefix, most = template.get("names"), template.get("prefix"), template.get("max")
    if isinstance(names, list):
        labels = [str(label) for label in names[:MAX_SLOTS]]
    elif isinstance(prefix, str) and isinstance(most, int):
        labels = [f"{prefix}{number}" for number in range(min(most, MAX_SLOTS))]
    else:
        return ()
    least = number if isinstance(number := template.get("min"), int) else 0
    groups = section if isinstance(section, Mapping) else {}
    (raw,) = (raw for key in ("required", "optional") for raw in groups.get(key, {}).values())
    needed = required and one[0].required
    return tuple(
        _input(owner, f"{name}.{label}", raw, required=needed and at < least, depth=depth + 1)
        for at, label in enumerate(labels)
    )


def _looked_up(options: tuple[object, ...]) -> frozenset[object] | None:
    """A long list is looked through once for each node that chooses of it: that must not take its length."""
    if len(options) <= SHORT_LIST or any(isinstance(option, list | dict) for option in options):
        return None
    return frozenset(options)


def _says_file(key: object) -> bool:
    return isinstance(key, str) and (key.endswith("upload") or key == "image_folder")


def _adds_options(key: object) -> bool:
    return _says_file(key) or key == "remote"


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) else None
