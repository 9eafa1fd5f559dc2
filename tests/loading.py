"""Loads tables of adapters (tests/mutants, tests/variants): two folders have an elman.py; and targets, in process."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from conformance.targets import Setting, Target, resolve

HERE = Path(__file__).parent


def load(folder: str, name: str) -> ModuleType:
    """The module in tests/folder/name.py, its folder on sys.path meanwhile; the same one for all who ask."""
    known = f"tests_{folder}_{name}"
    if known in sys.modules:
        return sys.modules[known]
    path = HERE / folder / f"{name}.py"
    spec = importlib.util.spec_from_file_location(known, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        sys.modules[known] = module
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[known]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


def in_process(text: str) -> Target:
    """A target in this very process: for tests of what is judged, not of who answers."""
    return resolve(text, Setting(in_process=True))
