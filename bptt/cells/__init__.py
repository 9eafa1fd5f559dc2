"""One file a cell; each file found here that has a `CELL` is known by that cell's name."""

from __future__ import annotations

import importlib
import pkgutil

from bptt.cells.base import Cell

CELLS: dict[str, Cell] = {}

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    _cell = getattr(importlib.import_module(f"{__name__}.{_module}"), "CELL", None)
    if _cell is not None:
        CELLS[_cell.name] = _cell
