"""The gradients of this project, as one test; a failure says where, why, and how to see it again."""

import bpttcheck


def test_gradients() -> None:
    """Every cell, dtype and property that the adapter offers."""
    bpttcheck.assert_conformant("adapters/mine.py", profile="smoke")
