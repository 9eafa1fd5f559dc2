"""A right adapter that changes its directory as it is imported, and returns keys that no file can hold."""

import os

import good

SUPPORTS = good.SUPPORTS

os.chdir("/")


def gradients(problem):
    """What is right, and more."""
    return {**good.gradients(problem), "x\ud800": 1, "y\n": 2}
