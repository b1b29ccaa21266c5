"""Both surfaces do the same, on both databases."""

from tests.support.kept_in import kept_in

__all__ = ["kept_in"]
