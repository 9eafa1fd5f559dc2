"""setup.py: the one part of the build that pyproject.toml cannot hold, what is in C and optional.

Without a C compiler the installation succeeds: the target `c` is unavailable, and budgets take longer.
"""

import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup  # type: ignore[import-untyped]

SOURCES = {"implementations._bptt_c": Path("implementations/csrc"), "oracle._steps": Path("oracle/csrc")}

# No -ffast-math (it reorders sums and flushes subnormals) and no -march=native (wheels travel; the kernel is built for
# each instruction set and chooses when it runs). A product may be fused with an addition, which -std=c11 forbids.
UNIX_FLAGS = ["-std=c11", "-O3", "-ffp-contract=fast", "-pthread", "-Wall", "-Wextra", "-Wpedantic"]
FLAGS = ["/std:c11", "/O2"] if sys.platform == "win32" else UNIX_FLAGS

# One wheel for Python 3.11 and later; free-threaded builds have no limited API and get a wheel of their own.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    ext_modules=[
        Extension(
            name,
            sources=[path.as_posix() for path in sorted(folder.glob("*.c"))],
            depends=[path.as_posix() for path in sorted(folder.glob("*.h"))],
            define_macros=[("Py_LIMITED_API", "0x030b0000")] if LIMITED else [],
            extra_compile_args=FLAGS,
            extra_link_args=[] if sys.platform == "win32" else ["-pthread"],
            py_limited_api=LIMITED,
            optional=True,
        )
        for name, folder in SOURCES.items()
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {},
)
