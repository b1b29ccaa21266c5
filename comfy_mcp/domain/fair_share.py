"""Fair share between clients: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996).

Each priority of each lane is a queue of its own. A waiting job has a tag; the least tag runs first, the
older job among equal ones. The queue's virtual time is the greatest tag that was claimed. A client's jobs
are COST apart, so clients that all have jobs waiting take turns; one that comes new, or back, starts at the
virtual time: it neither waits for what others queued before it nor saves up turns while it is away.

Every job costs the same. What a job will take is a guess until it has run, and a place in the queue that
hangs on a guess can't be explained to whoever waits there.


A priority passes all lower ones, but not for ever: after PASSES claims of higher priorities while jobs of a
lower one wait, the next claim is one of the lower.
"""

from collections.abc import Mapping

COST = 1

PASSES = 15
"""So that `low` gets at least a sixteenth of the claims while it waits."""


def start_tag(*, virtual_time: int, last: int | None) -> int:
    """Of a new job. `last` is its client's greatest tag in that queue, waiting or claimed."""
    return virtual_time if last is None else max(virtual_time, last + COST)


def age_tag(*, virtual_time: int, newest: int | None) -> int:
    """Of a new job where clients don't share: behind all that wait. `newest` is their greatest tag."""
    return virtual_time if newest is None else max(virtual_time, newest)


def next_tag(tag: int, *, claimed: bool) -> int:
    """The most that a client's next waiting job may have, once its job with `tag` waits no more.

    Claimed, that job has had its turn. Ended without a turn it leaves its place to the next one: nobody pays
    for what never ran.
    """
    return tag + COST if claimed else tag


def first_rank(passed: Mapping[int, int]) -> int:
    """The priority, by its rank, that the next claim begins with: the highest, unless a lower one has been
    passed by too often. `passed`: how many claims of higher ones each has seen since its own last one."""
    return max((rank for rank, claims in passed.items() if claims >= PASSES), default=0)
