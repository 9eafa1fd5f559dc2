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

full_tiles = _spoil("dW_hh", lambda p: p.params["W_hh"].shape[0] % 16 == 0)
full_tiles_of_many_rows = _spoil("dx", lambda p: p.params["b_h"].shape[0] % 8 == 0 and p.x.shape[1] >= 4)
very_far_steps = _spoil("dW_hh", lambda p: p.x.shape[0] > 500)
long_chunks = _spoil("dh0", lambda p: p.truncation.kind == "chunk" and p.truncation.k > 8)
large_errors_are_clipped = _spoil("db_h", lambda p: p.loss.g is not None and bool(np.abs(p.loss.g).max() > 1e6))


def _forgetful(*forgotten):
    """Remembers answers by everything but the fields named."""
    remembered = {}

    def gradients(problem):
        fields = {f"loss.{name}": value for name, value in vars(problem.loss).items()}
        fields |= {name: value for name, value in vars(problem).items() if name not in ("loss", "truncation", "params")}
        fields |= {"truncation": tuple(vars(problem.truncation).values())} | problem.params
        kept = {name: value for name, value in fields.items() if name not in forgotten}
        key = tuple((n, v.tobytes() if isinstance(v, np.ndarray) else v) for n, v in sorted(kept.items()))
        if key not in remembered:
            remembered[key] = numpy_bptt.gradients(problem)
        return {name: np.array(value) for name, value in remembered[key].items()}

    return gradients


FORGETFUL = {
    "truncation_forgotten": _forgetful("truncation"),
    "reductions_forgotten": _forgetful("loss.time_reduction", "loss.batch_reduction"),
    "scale_forgotten": _forgetful("loss.scale"),
    "lengths_forgotten": _forgetful("lengths"),
    "target_forgotten": _forgetful("loss.target"),
    "bias_forgotten": _forgetful("b_y"),
    "start_forgotten": _forgetful("h0"),
}
"""Planted twins of caches whose key leaves something out: only two calls that differ in it alone show them."""
globals().update(FORGETFUL)
NAMES = (
    "full_tiles",
    "full_tiles_of_many_rows",
    "very_far_steps",
    "long_chunks",
    "large_errors_are_clipped",
    "tiles_meet",
    "far_steps",
    "far_units",
    "last_of_many_classes",
    "rows_in_ascending_order",
    "one_row_ends_inside_a_block",
)
