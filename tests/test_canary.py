"""The canary: it sees what a library may do to the floating-point unit, in a process of its own, and else says nothing.

The settings go through the C library: fesetround for the rounding mode, and the last word of fenv_t, which on x86-64 is
the MXCSR register, for flush-to-zero (bit 15) and denormals-are-zero (bit 6).
"""

from __future__ import annotations

import ctypes.util
import platform
import subprocess
import sys

import numpy as np
import pytest

from oracle import canary
from oracle.errors import EnvironmentUnsound

LIBM = ctypes.util.find_library("m")
ROUNDING = {"downward": 0x400, "upward": 0x800, "toward zero": 0xC00}  # x86's constants of fenv.h
FLUSHING = {"flush to zero": 0x8000, "denormals are zero": 0x0040, "both": 0x8040}
FLUSHED = "subnormal numbers are flushed to zero"
MODE = "rounding is not to nearest, ties to even"
x86_64 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or sys.platform != "linux" or LIBM is None,
    reason="the settings are those of x86-64 under Linux",
)


def found_after(setting: str) -> list[str]:
    """What the canary finds in a process that has imported it, then run a setting."""
    code = f"""
import ctypes
from oracle import canary
assert canary.problems_found() == []
libm = ctypes.CDLL({LIBM!r})
environment = (ctypes.c_uint32 * 8)()
assert libm.fegetenv(environment) == 0
{setting}
for line in canary.problems_found():
    print(line)
try:
    canary.check("the adapter")
except canary.EnvironmentUnsound as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_canary_is_silent_in_a_sound_process() -> None:
    assert canary.problems_found() == []
    canary.check()


@x86_64
def test_canary_is_silent_after_a_setting_that_changes_nothing() -> None:
    assert found_after("assert libm.fesetround(0) == 0; assert libm.fesetenv(environment) == 0") == []


@x86_64
@pytest.mark.parametrize("mode", ROUNDING)
def test_canary_finds_a_changed_rounding_mode(mode: str) -> None:
    assert found_after(f"assert libm.fesetround({ROUNDING[mode]}) == 0") == [MODE, f"the adapter: {MODE}"]


@x86_64
@pytest.mark.parametrize("setting", FLUSHING)
def test_canary_finds_flushed_subnormals(setting: str) -> None:
    found = found_after(f"environment[7] |= {FLUSHING[setting]}; assert libm.fesetenv(environment) == 0")
    assert FLUSHED in found
    assert MODE not in found
    assert found[-1].startswith(f"the adapter: {FLUSHED}")


@x86_64
def test_canary_finds_both_at_once() -> None:
    both = "environment[7] |= 0x8040; assert libm.fesetenv(environment) == 0; assert libm.fesetround(0x800) == 0"
    found = found_after(both)
    assert FLUSHED in found
    assert MODE in found


@x86_64
def test_canary_is_silent_once_the_setting_is_taken_back() -> None:
    assert found_after("assert libm.fesetround(0x800) == 0; assert libm.fesetenv(environment) == 0") == []


def test_canary_finds_the_flushing_that_torch_offers() -> None:
    pytest.importorskip("torch", reason="torch.set_flush_denormal is the setting that users meet")
    code = """
import torch
from oracle import canary
if not torch.set_flush_denormal(True):
    print("not offered")
print(canary.problems_found())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    if run.stdout.startswith("not offered"):
        pytest.skip("torch cannot flush subnormals on this processor")
    assert FLUSHED in run.stdout


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("_TINY", np.zeros(1), FLUSHED),
        ("_EPS", np.array([0.0, 0.0, 0.0]), MODE),
        ("_EPS", np.array([2.0**-52, 0.0, 2.0**-52]), MODE),
    ],
)
def test_canary_check_names_who_is_to_blame(
    monkeypatch: pytest.MonkeyPatch, name: str, value: np.ndarray, message: str
) -> None:
    monkeypatch.setattr(canary, name, value)
    with pytest.raises(EnvironmentUnsound, match=rf"^pelican: {message}"):
        canary.check("pelican")
