"""setup.py: the one part of the build that pyproject.toml cannot hold, what is in C and optional.

Without a C compiler the installation succeeds: the target `c` is unavailable, and budgets take longer.
"""

import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup  # type: ignore[import-untyped]

SOURCES = {"implementations._bptt_c": Path("implementations/csrc"), "oracle._steps": Path("oracle/csrc")}

# No -ffast-math (it reorders sums and flushes subnormals) and no -march=native (wheels travel; the kernel is built for
# each instruction set and chooses when it runs). In the kernel a product may be fused with an addition; in the oracle
# it must not be: there, what a rounding took is computed from the rounded value.
UNIX_FLAGS = ["-std=c11", "-O3", "-pthread", "-Wall", "-Wextra", "-Wpedantic"]
WINDOWS_FLAGS = ["/std:c11", "/O2", "/fp:precise"]
FLAGS = {
    name: WINDOWS_FLAGS if sys.platform == "win32" else [*UNIX_FLAGS, f"-ffp-contract={contract}"]
    for name, contract in (("implementations._bptt_c", "fast"), ("oracle._steps", "off"))
}

# One wheel for Python 3.11 and later; free-threaded builds have no limited API and get a wheel of their own.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    ext_modules=[
        Extension(
            name,
            sources=[path.as_posix() for path in sorted(folder.glob("*.c"))],
            depends=[path.as_posix() for path in sorted(folder.glob("*.h"))],
            define_macros=[("Py_LIMITED_API", "0x030b0000")] if LIMITED else [],
            extra_compile_args=FLAGS[name],
            extra_link_args=[] if sys.platform == "win32" else ["-pthread"],
            py_limited_api=LIMITED,
            optional=True,
        )
        for name, folder in SOURCES.items()
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {},
)
