"""The values of a node as a workflow file keeps them, by the names that its class has for them.

A file has them as a list in the order of the editor's controls (`widgets_values`), as an object by name (some
custom nodes), or both (`widgets_values_named`, which newer editors write and don't read). A name is surer
than a place: classes grow inputs, and a list that is older than its class means something else then.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from comfy_mcp.domain.inputs import InputSpec
from comfy_mcp.domain.object_info import ClassInfo
from comfy_mcp.domain.shown import all_shown, shown
from comfy_mcp.domain.ui_format import UiNode
from comfy_mcp.domain.ui_packs import as_the_pack_reads, is_button, is_display, says_nothing, unsure
from comfy_mcp.domain.ui_texts import as_text
from comfy_mcp.domain.widgets import AFTER_GENERATE, Widget, is_socket, widgets_of

IsWidget = Callable[[InputSpec], bool | None]


@dataclass(slots=True)
class Saved:
    """`values`: what the editor sends, by name and in its order. `notes`: (input or None, what is odd).

    `widgets`: the controls that are sent. `places`: the names of what has a place in the list.
    `defaults`: the names of those that have no saved value, but one of their class.
    `links_only`: the saved values of inputs that have lost their control.
    `unread`: inputs for which it can't be known how many places they have, each with the place it stands at.
    `unplaced`: (input, why): the values from that input on can't be placed, so the node can't be sent.
    """

    values: dict[str, object] = field(default_factory=dict)
    notes: list[tuple[str | None, str]] = field(default_factory=list)
    widgets: dict[str, Widget] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)
    defaults: set[str] = field(default_factory=set)
    links_only: dict[str, object] = field(default_factory=dict)
    unread: list[tuple[Widget, int]] = field(default_factory=list)
    unplaced: tuple[str, str] | None = None

    def has(self, name: str) -> bool:
        """Whether the node has a control of that name."""
        return name in self.values or name in self.widgets

    def may_have(self, name: str) -> bool:
        """Whether it can't be known if the node has a control of that name."""
        return any(_is_of(mark.name, name) for mark, _ in self.unread)

    def add(self, widget: Widget) -> None:
        self.places.append(widget.name)
        if widget.sent:
            self.widgets[widget.name] = widget

    def shown_outside(self, name: str, value: object) -> object:
        """`value` for the control `name` that the node of a subgraph shows: null is the first of a list."""
        widget = self.widgets.get(name)
        return widget.null if value is None and widget is not None and widget.kind == "COMBO" else value

    def set_by_link(self, name: str, value: object) -> object:
        """`value` as the control `name` has it when a primitive sets it."""
        widget = self.widgets.get(name)
        return value if widget is None else _taken(widget, value)

    def take(self, widget: Widget, value: object) -> None:
        if widget.sent:
            self.values[widget.name] = _taken(widget, value)

    def take_default(self, widget: Widget) -> None:
        if widget.default is not None and not widget.chosen:
            self.take(widget, widget.default)
            self.defaults.add(widget.name)


def _is_of(parent: str, name: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def _taken(widget: Widget, value: object) -> object:
    if value is None:
        return widget.null
    return as_text(value) if widget.long else value


def read_values(known: ClassInfo, node: UiNode, socket_kinds: frozenset[str] = frozenset()) -> Saved:
    """What `node` of class `known` has for each control: what is saved, else the default.

    `socket_kinds`: types that some class gives out, so that they are links and no controls.
    """
    slots = {each.name: each.widget for each in node.inputs}
    saved = as_the_pack_reads(known, node)
    named = saved.values if isinstance(saved.values, Mapping) else node.named

    def is_widget(spec: InputSpec) -> bool | None:
        if is_socket(spec, socket_kinds):
            return False
        return slots.get(spec.name, None if named is None or spec.kind is None else spec.name in named)

    if isinstance(saved.values, Mapping):
        found = _by_name(known, saved.values, is_widget)
        _take_strays(found, saved.values, sent=not saved.whole)
        found.values |= saved.added
    else:
        listed = saved.values if isinstance(saved.values, list) else []
        found = _in_order(known, listed, is_widget, displays=saved.displays)
        if saved.bare:
            found.values = {
                name: value for name, value in found.values.items() if _has_place(found, name, listed)
            }
        elif node.named is not None and not saved.displays:
            found = _named(known, node.named, is_widget, found, complete=_fills(found, listed))
    if left := [value for value in saved.lost if value is not None]:
        found.notes.append((None, f"the class has no input for saved values: {all_shown(left)}"))
    linked = frozenset(each.name for each in node.inputs if each.link is not None)
    found.notes.extend(_not_sent(found, linked))
    if named is None and (missing := _missing(found, linked)):
        what = f"the file has no saved value for {all_shown(missing)}; the default is sent"
        found.notes.append((None, what))
    found.notes.extend(
        (name, text) for name, value in found.values.items() if (text := unsure(known, name, value))
    )
    count_option(known, found.values)
    return found


def _not_sent(found: Saved, linked: Collection[str]) -> Iterator[tuple[str, str]]:
    for name, value in found.links_only.items():
        if name not in linked and value not in (None, ""):
            yield name, f"it has no control, only a socket; its saved value {shown(value)} is not sent"


def _missing(found: Saved, linked: Collection[str]) -> list[str]:
    """Required inputs for which a list has no value. An optional one needs none: most lists that are shorter
    than their class are so because it has gained one."""
    return [
        name
        for name, widget in found.widgets.items()
        if widget.required and name in found.defaults and name not in linked
    ]


def _has_place(found: Saved, name: str, listed: Sequence[object]) -> bool:
    return name in found.places[: len(listed)]


def _fills(found: Saved, listed: Sequence[object]) -> bool:
    """The list has a value for every place, and none that nothing takes."""
    return len(listed) >= len(found.places) and all(value is None for value in listed[len(found.places) :])


def _by_name(known: ClassInfo, given: Mapping[str, object], is_widget: IsWidget) -> Saved:
    found = Saved()
    for widget in widgets_of(known, found.values, is_widget=is_widget):
        if widget.unread:
            _take_unread(found, widget, given)
            continue
        found.add(widget)
        if widget.name in given:
            found.take(widget, given[widget.name])
        else:
            found.take_default(widget)
    return found


def _take_unread(found: Saved, mark: Widget, given: Mapping[str, object]) -> None:
    found.unread.append((mark, len(found.places)))
    for name, value in given.items():
        if value is not None and name not in found.values and _is_of(mark.name, name):
            found.values[name] = value
            found.notes.append((name, f"{mark.why}; {shown(value)} is sent as it is"))


def _take_strays(found: Saved, given: Mapping[str, object], *, sent: bool) -> None:
    """Names that the class does not declare: a control that a pack's script adds (VHS_VideoCombine's `crf`)
    is `sent`; a display or a button is not.
    """
    places = frozenset(found.places)
    for name, value in given.items():
        if name in found.values or name in places or is_display(name, value):
            continue
        if sent and not is_button(name):
            found.values[name] = value
            if isinstance(value, Mapping):
                found.notes.append(
                    (name, f"the class has no such input; {shown(value)} is sent all the same")
                )
        elif not says_nothing(name, value):
            found.notes.append((name, f"the node has no such control; {shown(value)} is not sent"))


def _named(
    known: ClassInfo, given: Mapping[str, object], is_widget: IsWidget, in_order: Saved, *, complete: bool
) -> Saved:
    """By name, with a note for each place where the list says something else.

    The editor reads the list. It is right as long as the class has the inputs that it had (`complete`, and
    the same names): then the names are what somebody forgot to change. Otherwise the names count.
    """
    same = complete and set(in_order.places) == set(given)
    found = in_order if same else _by_name(known, given, is_widget)
    found.unplaced = None
    other = given if same else in_order.values
    how = ("by its place in the list", "by its name") if same else ("by its name", "by its place in the list")
    for name, value in found.values.items():
        if name in other and other[name] != value:
            place = "by default" if not same and name in in_order.defaults else how[1]
            text = f"{shown(value)} {how[0]}, {shown(other[name])} {place}; the former is sent"
            found.notes.append((name, text))
    places = frozenset(found.places)
    for name, value in given.items():
        if (
            name in places
            or name in found.values
            or value is None
            or (known.custom and says_nothing(name, value))
        ):
            continue
        what = "is not sent"
        if known.custom:
            found.values[name], what = value, "is sent all the same: a custom node may read it"
        found.notes.append((name, f"the class has no such input; {shown(value)} {what}"))
    return found


def _in_order(
    known: ClassInfo, listed: Sequence[object], is_widget: IsWidget, *, displays: bool = False
) -> Saved:
    """By place, as the editor reads them.

    Two kinds of old lists are recognised by their length: with the values of inputs that have lost their
    control (`forceInput`), as the editor does it; and without the places behind seeds, where the editor would
    read everything behind them wrongly. `displays`: what is beyond the class's own only shows something.
    """
    found, _ = _walk(known, listed, is_widget)
    if not listed:
        return found
    if found.unread and len(listed) > found.unread[0][1]:
        return _only_reading(known, listed, is_widget, found)
    fitting = _fitting(known, listed, is_widget)
    if fitting is not None:
        return fitting
    left = [value for value in listed[len(found.places) :] if value not in (None, "")]
    if left and not displays:
        found.notes.append((None, f"the class has no input for saved values: {all_shown(left)}"))
    return found


def _only_reading(known: ClassInfo, listed: Sequence[object], is_widget: IsWidget, without: Saved) -> Saved:
    """Of a list with values where inputs stand whose number of places can't be known: the one reading that
    its length allows, in which none of them has a place or each has one.

    Otherwise `without`, in which none has one, and what can't be placed.
    """
    many = any(mark.unread == "many" for mark, _ in without.unread)
    most = len(listed) if many else len(without.unread)
    more = [len(listed) - len(each.places) for each in _readings(known, listed, is_widget)]
    possible = [number for number in more if 0 <= number <= most]
    ways: list[IsWidget] = [is_widget] if many else [is_widget, lambda spec: is_widget(spec) is not False]
    fitting = [found for way in ways if (found := _fitting(known, listed, way)) is not None]
    if len(fitting) == 1 and possible in ([0], [most]):
        return fitting[0]
    mark, at = without.unread[0]
    what = f"{all_shown(listed[at:])} in the list of saved values can't be given to inputs"
    without.unplaced = mark.name, f"{mark.why}, so {what}"
    return without


def _fitting(known: ClassInfo, listed: Sequence[object], is_widget: IsWidget) -> Saved | None:
    readings = _readings(known, listed, is_widget)
    return next((each for each in readings if len(each.places) == len(listed)), None)


def _readings(known: ClassInfo, listed: Sequence[object], is_widget: IsWidget) -> Iterator[Saved]:
    """As the class is now, with inputs that lost their control, and without places behind seeds."""
    found, odd = _walk(known, listed, is_widget)
    yield found
    forced, _ = _walk(known, listed, is_widget, forced=True)
    if len(forced.places) != len(found.places):
        controls = frozenset(found.places)
        places = zip(forced.places, listed, strict=False)
        forced.links_only = {name: value for name, value in places if name not in controls}
        yield forced
    if odd:
        bare, _ = _walk(known, listed, is_widget, bare=True)
        text = "the file has no place for what happens to the seed after a run; its values are read without"
        bare.notes.append((None, text))
        yield bare


def _walk(
    known: ClassInfo,
    listed: Sequence[object],
    is_widget: IsWidget,
    *,
    forced: bool = False,
    bare: bool = False,
) -> tuple[Saved, bool]:
    """The values, and whether the word is missing behind a seed."""
    found, odd = Saved(), False
    for widget in widgets_of(known, found.values, is_widget=is_widget, forced=forced):
        at = len(found.places)
        if widget.unread:
            found.unread += (
                [(widget, at)] if widget.unread == "many" or widget.name not in found.widgets else []
            )
            continue
        found.add(widget)
        if not widget.saved or (bare and widget.control):
            found.places.pop()
            found.take(widget, widget.default)
            continue
        if at < len(listed):
            found.take(widget, listed[at])
            odd = odd or (widget.control and not _is_control(listed[at]))
        else:
            found.take_default(widget)
    return found, odd


def _is_control(value: object) -> bool:
    """Files of 2023 have true or false there, those of some packs null."""
    return value is None or isinstance(value, bool) or (isinstance(value, str) and value in AFTER_GENERATE)


def count_option(known: ClassInfo, values: dict[str, object]) -> None:
    """The editor sends which of a CustomCombo's own options is chosen, whatever number was saved."""
    if known.name == "CustomCombo":
        options = [value for name, value in values.items() if name.startswith("option")]
        chosen = values.get("choice")
        values["index"] = options.index(chosen) if chosen in options else -1
