"""A warm Python behaves as a fresh one does, as far as the tests that use it can tell."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.warm_python import REPOSITORY, WARM_PYTHON

PROGRAMS = {
    "arguments, environment, folder": "import os; print(sys.argv[1:], dict(os.environ), os.getcwd())",
    "input": "print(sys.stdin.read().upper())",
    "output of all kinds": "import os; print('é'); os.system('echo a child'); sys.stderr.write('Fehler ü')",
    "its session": "import os; print(os.getsid(0) == os.getpid())",
    "an exit code": "sys.exit(3)",
    "a last word": "sys.exit('that was it')",
    "a signal": "signal.raise_signal(signal.SIGTERM)",
    "a thread that goes on": "import threading; threading.Timer(0.1, print, ['later']).start(); print('now')",
    "something for the end": "import atexit; atexit.register(print, 'the end')",
}
"""By name, each with `signal` and `sys` at hand."""


def outcome(python: str, script: Path, *, new_session: bool = False) -> tuple[int, str, str]:
    done = subprocess.run(
        [python, str(script), "one", "two words"],
        input="some text",
        capture_output=True,
        text=True,
        env={"MINE": "a value", "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        cwd=script.parent,
        timeout=60,
        check=False,
        start_new_session=new_session,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("new_session", [False, True])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_ends_the_same_and_writes_the_same(tmp_path: Path, program: str, new_session: bool) -> None:
    script = tmp_path / "program.py"
    script.write_text(f"import signal, sys\n{PROGRAMS[program]}\n")
    warm = outcome(WARM_PYTHON, script, new_session=new_session)
    assert warm == outcome(sys.executable, script, new_session=new_session)


BEGUN_MEANWHILE = """\
import os, subprocess, sys
from pathlib import Path
from tests.support.warm_python import WARM_PYTHON
clean = dict(os.environ)
os.environ["LD_LIBRARY_PATH"] = "/of one test"
subprocess.run([WARM_PYTHON, sys.argv[1]], env=clean, check=True)
for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
    print(b"of one test" in Path(f"/proc/{child}/environ").read_bytes())
"""


def test_the_loader_of_all_is_not_that_of_the_test_that_begins(tmp_path: Path) -> None:
    """The loader reads its variables once, as the process starts that forks all others."""
    (tmp_path / "nothing.py").write_text("")
    words = [sys.executable, "-c", BEGUN_MEANWHILE, str(tmp_path / "nothing.py")]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False"]


INTERRUPTED = """\
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.raise_signal(signal.SIGINT)
"""
"""By a handler of its own: in what a shell starts in the background, SIGINT is ignored."""


@pytest.mark.parametrize(
    ("program", "status", "last"),
    [
        ("raise ValueError('on purpose')", 1, "ValueError: on purpose"),
        (INTERRUPTED, -signal.SIGINT, "KeyboardInterrupt"),
        ("import os; print('lost'); os.close(1)", 120, "OSError: [Errno 9] Bad file descriptor"),
    ],
)
def test_an_end_that_has_a_traceback(tmp_path: Path, program: str, status: int, last: str) -> None:
    """What is above its last line differs."""
    script = tmp_path / "program.py"
    script.write_text(program)
    for python in (WARM_PYTHON, sys.executable):
        code, out, error = outcome(python, script)
        assert (code, out, error.splitlines()[-1:]) == (status, "", [last])


def test_it_can_be_killed_and_awaited_by_its_pid() -> None:
    process = subprocess.Popen([WARM_PYTHON, "-m", "comfy_mcp", "mcp"], stdin=subprocess.PIPE)
    assert process.poll() is None
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
