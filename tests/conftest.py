"""What holds for all tests."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the garbage collector need not walk it over and over."""
    gc.collect()
    gc.freeze()
