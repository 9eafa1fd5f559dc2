"""bpttcheck: the one module of this project that user code may import.

main()      the command `bpttcheck`: starts `python -P -m conformance`, so that no folder of the user's own that is
            named `properties` or `oracle` shadows ours
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line in a Python that looks for modules where they are installed and nowhere else."""
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # the oracle's matrices are small: threads only cost
        os.environ.setdefault(variable, "1")
    command = [sys.executable, "-P", "-m", "conformance", *sys.argv[1:]]
    if os.name == "posix":
        os.execv(command[0], command)  # noqa: S606 - this very interpreter
    sys.exit(subprocess.call(command))  # noqa: S603 - the user's own words, no shell


if __name__ == "__main__":
    main()
