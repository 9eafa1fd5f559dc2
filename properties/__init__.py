"""One theorem of BPTT a file: its statement, its source, where its problems come from, and how it is checked.

Each file here that has a `PROPERTY` is in the catalogue, `PROPERTIES`, by its id.
"""

from __future__ import annotations

import importlib
import pkgutil

from properties.base import Property

PROPERTIES: dict[str, Property] = {}

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    _property = getattr(importlib.import_module(f"{__name__}.{_module}"), "PROPERTY", None)
    if _property is not None:
        PROPERTIES[_property.id] = _property
