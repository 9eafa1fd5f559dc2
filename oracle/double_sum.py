"""The literal masked double sum: the second road to the gradients, with no gradient code in common with the first.

    dtheta = sum_b sum_t sum_{s<=t} m_b(t,s) (dL_t/ds_t) (ds_t/ds_s) (d+s_s/dtheta)

Every term (t,s) is formed on its own, from the local Jacobians and immediate partials that each cell's file derives by
hand. Slow on purpose: quadratic in T, row by row.
"""

from __future__ import annotations

from typing import Any

from bptt.losses import row_weights
from oracle.numbers import Matrix, exact_fraction
from oracle.unrolled import Unrolled


def double_sum_gradients(unrolled: Unrolled) -> dict[str, Matrix]:
    """Every gradient by the double sum. Shapes as `oracle.reverse.reverse_gradients`.

    >>> import numpy as np
    >>> from bptt.problem import Loss, Problem
    >>> from oracle.rational_numbers import RationalNumbers
    >>> from oracle.unrolled import unroll
    >>> one = np.ones((1, 1))
    >>> params = {"W_xh": one, "W_hh": 3 * one, "b_h": one[0]}
    >>> p = Problem("elman", params, np.ones((2, 1, 1)), Loss("cotangent", g=np.ones((2, 1, 1))), activation="identity")
    >>> double_sum_gradients(unroll(p, RationalNumbers()))["dx"].data  # dL_1/dx_1 + dL_2/dx_1 = 1 + 3, and 1
    [Fraction(4, 1), Fraction(1, 1)]
    """
    u, N, problem = unrolled, unrolled.N, unrolled.problem
    spec, B, D, H, T = problem.spec, problem.B, problem.D, problem.H, problem.T
    S = H * len(spec.states)
    params = {name: leaf.value for name, leaf in u.leaves.items()}
    out = {f"d{name}": N.zeros(matrix.rows, matrix.cols) for name, matrix in params.items()}
    dx = N.zeros(T * B, D)
    initial = {name: N.zeros(B, H) for name in spec.states}
    x_all = N.decode(problem.x)
    cec = problem.truncation.kind == "cec"

    def accumulate(into: Matrix, offset: int, values: list[Any]) -> None:
        for j, value in enumerate(values):
            into.data[offset + j] = into.data[offset + j] + value

    for b in range(B):
        length = int(problem.row_lengths[b])
        if length == 0:
            for name in spec.states:
                final = u.final_cotangents.get(name)
                if final is not None:
                    accumulate(initial[name], b * H, final.row(b))
        locals_ = []
        for s in range(1, length + 1):
            state = {name: Matrix(1, H, u.states[name][s - 1].row(b)) for name in spec.states}
            x_s = Matrix(1, D, x_all.row((s - 1) * B + b))
            locals_.append(spec.local(N, params, x_s, state, problem.activation, cec))
        for t in range(1, length + 1):
            do = _output_cotangent(u, b, t)
            h_t = Matrix(1, H, u.states["h"][t].row(b))
            if problem.readout == "linear":
                accumulate(out["dW_hy"], 0, N.outer(h_t, do).data)
                accumulate(out["db_y"], 0, do.data)
                dh = N.matmul(do, N.transpose(params["W_hy"]))
            else:
                dh = do
            v = Matrix(1, S, dh.data + [N.scalar(0)] * (S - H))
            if t == length:
                for i, name in enumerate(spec.states):
                    final = u.final_cotangents.get(name)
                    if final is not None:
                        accumulate(v, i * H, final.row(b))
            for s in range(t, 0, -1):  # v is (dL_t/ds_t)(ds_t/ds_s)
                if not problem.truncation.mask(t, s, length):
                    break
                J, pull = locals_[s - 1]
                for name, part in pull(v).items():
                    if name == "x":
                        accumulate(dx, ((s - 1) * B + b) * D, part.data)
                    else:
                        accumulate(out[f"d{name}"], 0, part.data)
                v = N.matmul(v, N.transpose(J))
                if s == 1:
                    for i, name in enumerate(spec.states):
                        accumulate(initial[name], b * H, v.data[i * H : (i + 1) * H])
    return out | {"dx": dx} | {f"d{name}0": matrix for name, matrix in initial.items()}


def _output_cotangent(u: Unrolled, b: int, t: int) -> Matrix:
    """dL_t/do_t of one row, from the definition of the loss: sum_k (dL/dp_k or dL/do_k) by hand, term by term."""
    problem, N, K = u.problem, u.N, u.problem.K
    loss = problem.loss
    index = (t - 1) * problem.B + b
    o = u.outputs.row(index)
    if loss.kind == "cotangent":
        assert loss.g is not None
        return Matrix(1, K, N.decode(loss.g[t - 1, b]).data)
    weight = N.ratio(row_weights(problem)[b])
    assert loss.target is not None
    if loss.kind == "squared_error":
        y = N.decode(loss.target[t - 1, b]).data
        assert loss.scale is not None
        twice = N.ratio(2 * exact_fraction(loss.scale)) * weight
        return Matrix(1, K, [twice * (value - goal) for value, goal in zip(o, y, strict=True)])
    if loss.target.ndim == 3:
        y = N.decode(loss.target[t - 1, b]).data
    else:
        y = [N.scalar(int(k == loss.target[t - 1, b])) for k in range(K)]
    p = [1 / N.sum([N.exp(o[j] - o[k]) for j in range(K)]) for k in range(K)]
    # dL/do_j = -sum_k y_k (1[j=k] - p_j)
    return Matrix(1, K, [weight * N.sum([y[k] * (p[j] - (1 if j == k else 0)) for k in range(K)]) for j in range(K)])
