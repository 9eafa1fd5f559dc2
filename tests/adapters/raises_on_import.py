"""An adapter that cannot be imported."""

raise RuntimeError("no device found\nsecond line")
