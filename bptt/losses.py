"""How much each step's loss weighs in the total: the reductions, as exact rationals.

    L = sum_b v_b sum_{t <= length_b} w_tb L_tb

time `mean`: w = 1/length_b (a row of length 0 contributes 0); batch `mean`: v = 1/B; `tokens`: 1/sum of lengths in all.
"""

from __future__ import annotations

from fractions import Fraction

from bptt.problem import Problem


def row_weights(problem: Problem) -> list[Fraction]:
    """The weight of each of row b's steps, (B,); 0 for a row of length 0.

    >>> import numpy as np
    >>> from bptt.problem import Loss
    >>> p = Problem("elman", {"W_xh": np.ones((1, 1)), "W_hh": np.ones((1, 1)), "b_h": np.ones(1)}, np.ones((4, 2, 1)),
    ...             Loss("squared_error", target=np.ones((4, 2, 1)), scale=0.5, time_reduction="mean",
    ...                  batch_reduction="mean"),
    ...             lengths=np.array([3, 0]), activation="tanh")
    >>> row_weights(p)
    [Fraction(1, 6), Fraction(0, 1)]
    """
    lengths = problem.row_lengths.tolist()
    if problem.loss.time_reduction == "tokens":
        total = sum(lengths)
        return [Fraction(1, total) if length else Fraction(0) for length in lengths]
    batch = Fraction(1, problem.B) if problem.loss.batch_reduction == "mean" else Fraction(1)
    if problem.loss.time_reduction == "mean":
        return [batch / length if length else Fraction(0) for length in lengths]
    return [batch if length else Fraction(0) for length in lengths]
