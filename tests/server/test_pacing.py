"""How often subscribers hear of a resource."""

from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.server.pacing import PER_WINDOW, WINDOW_S, Pacing

URI = "comfy://workflows/a"


def test_a_first_change_goes_at_once() -> None:
    pacing = Pacing()
    pacing.changed(URI)
    assert pacing.take(0.0) == [URI]
    assert pacing.next_due() is None


def test_one_place_of_the_window_is_kept_for_the_final_change() -> None:
    pacing = Pacing()
    for _ in range(PER_WINDOW - 1):
        pacing.changed(URI)
        assert pacing.take(0.0) == [URI]
    pacing.changed(URI)
    assert pacing.take(0.5) == []
    assert pacing.next_due() == WINDOW_S
    pacing.changed(URI, final=True)
    assert pacing.take(0.5) == [URI]


def test_a_change_that_waited_goes_when_the_window_has_passed() -> None:
    pacing = Pacing()
    for _ in range(PER_WINDOW - 1):
        pacing.changed(URI)
        pacing.take(0.0)
    pacing.changed(URI)
    assert pacing.take(0.999) == []
    assert pacing.take(1.0) == [URI]


def test_a_busy_resource_does_not_hold_up_another() -> None:
    pacing = Pacing()
    for _ in range(10):
        pacing.changed(URI)
        pacing.take(0.0)
    pacing.changed("comfy://queue")
    assert pacing.take(0.0) == ["comfy://queue"]


def test_what_is_out_of_the_window_is_forgotten() -> None:
    pacing = Pacing()
    for number in range(1_000):
        pacing.changed(f"{URI}{number}", final=True)
        pacing.take(float(number))
    assert len(pacing._sent) <= 2


@given(st.lists(st.tuples(st.floats(0, 0.4), st.booleans()), min_size=1, max_size=60))
def test_never_more_than_four_a_second_and_the_last_change_always_comes(
    changes: list[tuple[float, bool]],
) -> None:
    pacing = Pacing()
    now, sent, last_change = 0.0, [], 0.0
    for pause, tried in changes:
        now += pause
        pacing.changed(URI)
        last_change = now
        if tried:
            sent += [now for _ in pacing.take(now)]
    while (due := pacing.next_due()) is not None:
        now = max(now, due)
        sent += [now for _ in pacing.take(now)]
    assert sent[-1] >= last_change
    for first, fifth in zip(sent, sent[PER_WINDOW:], strict=False):
        assert fifth - first >= WINDOW_S
