"""The built-in targets, offering the Elman cell alone, so that a test can certify them in seconds."""

from implementations import registry


def _narrow(name):
    def gradients(problem):
        return registry.load(name).gradients(problem)

    if registry.availability()[name] is None:
        gradients.SUPPORTS = {**registry.load(name).SUPPORTS, "cells": ["elman"]}
    return gradients


numpy, c, torch, torch_nn = (_narrow(name) for name in ("numpy", "c", "torch", "torch-nn"))
