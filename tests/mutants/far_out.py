"""Bugs of the Elman cell that show only where several things meet, or far out; a first certificate had missed them.

Each takes the right answer of `numpy` and spoils an entry of it on its own condition, as a kernel's tail would.
"""

import numpy as np

from implementations import numpy_bptt

SUPPORTS = {**numpy_bptt.SUPPORTS, "cells": ["elman"], "activations": ["tanh"]}


def _spoil(name, condition):
    def gradients(problem):
        answer = numpy_bptt.gradients(problem)
        if condition(problem):
            spoilt = np.array(answer[name])
            spoilt[(-1,) * spoilt.ndim] *= 1.01
            answer[name] = spoilt
        return answer

    return gradients


def _is_ascending(lengths):
    return lengths is not None and len(lengths) > 5 and bool((np.diff(lengths) >= 0).all())


def _has_last_of_many_classes(problem):
    target = getattr(problem.loss, "target", None)
    if problem.loss.kind != "cross_entropy" or target.ndim != 2:
        return False
    K = problem.params["W_hy"].shape[1] if problem.readout == "linear" else problem.params["W_hh"].shape[0]
    return K > 8 and bool((target == K - 1).any())


def _one_ends_inside_a_block(problem):
    cut, lengths = problem.truncation, problem.lengths
    return cut.kind == "periodic" and cut.k1 > 2 and lengths is not None and int((lengths % cut.k1 > 0).sum()) == 1


tiles_meet = _spoil("dW_hh", lambda p: p.x.shape[0] > 16 and p.params["W_hh"].shape[0] > 16)
far_steps = _spoil("dW_hh", lambda p: p.x.shape[0] > 300)
far_units = _spoil("db_h", lambda p: p.params["b_h"].shape[0] > 130)
last_of_many_classes = _spoil("db_h", _has_last_of_many_classes)
rows_in_ascending_order = _spoil("dx", lambda p: _is_ascending(p.lengths))
one_row_ends_inside_a_block = _spoil("dh0", _one_ends_inside_a_block)

NAMES = (
    "tiles_meet",
    "far_steps",
    "far_units",
    "last_of_many_classes",
    "rows_in_ascending_order",
    "one_row_ends_inside_a_block",
)
