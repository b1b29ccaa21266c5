"""Engines from the command line."""

from tests.cli.conftest import Shell


def test_an_engine_is_listed_drained_and_resumed(shell: Shell) -> None:
    (listed,) = shell("engines", "list", "--json").json["engines"]
    engine = listed["id"]
    assert (listed["up"], listed["drained"]) == (True, False)
    drained = shell("engines", "drain", engine)
    assert drained.lines == [f"Engine {engine} ends what it has and takes nothing new."]
    assert "up, drained" in shell("engines", "list").out
    assert shell("engines", "resume", engine, "--json").json == {"engine": engine, "drained": False}
    assert "drained" not in shell("engines", "list").out


def test_an_engine_that_is_not_in_the_settings_is_not_found(shell: Shell) -> None:
    done = shell("engines", "drain", "nowhere")
    assert (done.code, done.out) == (3, "")
    assert "There is no engine 'nowhere'" in done.err
