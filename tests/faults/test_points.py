"""Every point at which a trial may strike exists: a renamed function must not make trials strike nowhere."""

import importlib
from operator import attrgetter
from pathlib import Path

from tests.faults.points import CALLS, CLOUD_CALLS, COMMITS, FILE_CALLS, LINES, STEPS

REPOSITORY = Path(__file__).parents[2]


def test_every_call_and_every_file_of_the_fault_points_exists() -> None:
    for target in (*CALLS, *CLOUD_CALLS, *COMMITS, *FILE_CALLS, *STEPS):
        module, _, name = target.partition(":")
        assert callable(attrgetter(name)(importlib.import_module(module))), target
    assert [file for files in LINES for file in files if not (REPOSITORY / file).exists()] == []
