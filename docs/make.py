"""Writes every page that is made from the code: to be run after a change of a cell, a property, a command or a schema.

    python docs/make.py

The tests compare each page with what its script makes.
"""

from __future__ import annotations

import runpy
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = ("make_cells.py", "make_commands.py", "make_properties.py", "make_schemas.py")

if __name__ == "__main__":
    for script in SCRIPTS:
        runpy.run_path(str(HERE / script), run_name="__main__")
