"""API keys from the command line."""

from tests.cli.conftest import Shell


def test_a_key_is_shown_once_and_listed_without_it(shell: Shell) -> None:
    made = shell("keys", "add", "dashboard", "--right", "read", "--right", "admin")
    assert made.code == 0
    (secret,) = made.lines
    assert secret.startswith("cb_")
    assert len(secret) > 40
    listed = shell("keys", "list", "--json")
    assert secret not in listed.out
    (key,) = listed.json["keys"]
    assert (key["name"], key["rights"], key["revokedAt"]) == ("dashboard", ["admin", "read"], None)


def test_a_key_may_submit_read_and_cancel_unless_told_otherwise(shell: Shell) -> None:
    assert shell("keys", "add", "agent", "--json").json["rights"] == ["cancel", "read", "submit"]


def test_a_revoked_key_stays_in_the_list_and_its_name_taken(shell: Shell) -> None:
    shell("keys", "add", "agent")
    assert shell("keys", "revoke", "agent").code == 0
    assert "revoked" in shell("keys", "list").out
    assert shell("keys", "revoke", "agent").code == 3
    again = shell("keys", "add", "agent")
    assert (again.code, again.out) == (2, "")
    assert "was revoked.\nnext: Choose another name: the workflows" in again.err


def test_a_name_that_a_key_has_leads_to_the_command_that_changes_it(shell: Shell) -> None:
    shell("keys", "add", "agent")
    again = shell("keys", "add", "agent")
    assert (again.code, again.out) == (2, "")
    assert "or change this key: `comfy-bridge keys change agent`." in again.err


def test_a_name_that_would_garble_a_list_is_refused(shell: Shell) -> None:
    assert shell("keys", "add", "a\nb").code == 2
    assert shell("keys", "add", "").code == 2
    assert shell("keys", "list").out == ""


def test_a_key_has_a_quota_if_it_is_given_one(shell: Shell) -> None:
    made = shell("keys", "add", "agent", "--max-queued", "5", "--max-queued-bytes", "1000", "--json").json
    assert (made["maxQueued"], made["maxQueuedBytes"]) == (5, 1000)
    assert shell("keys", "list").out.rstrip().endswith("at most 5 queued, 1000 bytes queued")
    assert shell("keys", "add", "none", "--max-queued", "0").code == 2


def test_a_key_limits_what_runs_if_it_is_told_to(shell: Shell) -> None:
    made = shell("keys", "add", "agent", "--max-running", "2", "--max-gpu-seconds", "3600.5", "--json").json
    assert (made["maxRunning"], made["maxGpuSeconds"]) == (2, 3600.5)
    assert shell("keys", "list").out.rstrip().endswith("at most 2 running, 3600.5 GPU-seconds a day")
    for limit in (["--max-running", "0"], ["--max-gpu-seconds", "0"], ["--max-gpu-seconds", "inf"]):
        assert shell("keys", "add", "none", *limit).code == 2


def test_a_key_is_changed_and_a_limit_of_0_is_none(shell: Shell) -> None:
    shell("keys", "add", "agent", "--max-running", "2", "--max-queued", "5")
    changed = shell(
        "keys", "change", "agent", "--max-running", "0", "--max-gpu-seconds", "60", "--right", "read"
    )
    assert changed.code == 0
    assert changed.out.rstrip().endswith("at most 5 queued, 60 GPU-seconds a day")
    assert shell("keys", "list").out == changed.out
    assert shell("keys", "change", "agent").code == 2
    assert shell("keys", "change", "agent", "--max-running", "-1").code == 2
    assert shell("keys", "change", "nobody", "--max-running", "1").code == 3
