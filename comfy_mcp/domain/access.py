"""Who may do what. The same rules on every surface."""

from enum import StrEnum


class Right(StrEnum):
    """READ, SUBMIT and CANCEL reach the caller's own jobs; ADMIN reaches everybody's."""

    READ = "read"
    SUBMIT = "submit"
    CANCEL = "cancel"
    ADMIN = "admin"


ALL_RIGHTS = frozenset(Right)
"""What the person at the machine has: stdio, the shell, and HTTP on loopback without keys."""

DEFAULT_KEY_RIGHTS = frozenset({Right.READ, Right.SUBMIT, Right.CANCEL})
"""What an API key gets that was made without naming rights."""
