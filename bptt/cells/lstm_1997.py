"""The LSTM cell as it was first: no forget gate; the columns of W_x, W_h and b belong to the gates i, g, o.

    [a_i a_g a_o] = x_t W_x + h_{t-1} W_h + b                                   (1)
    i, o = sigma(a_i), sigma(a_o)    g = tanh(a_g)                              (2)
    c_t = c_{t-1} + i∘g                                                         (3)
    h_t = o∘tanh(c_t)                                                           (4)

The slopes of the new states, entrywise; q is dh_t/dc_t at fixed o:
    s_i = g∘i∘(1-i)    s_g = i∘(1-g^2)                                          (5)
    s_o = tanh(c_t)∘o∘(1-o)    q = o∘(1-tanh(c_t)^2)                            (6)
Jacobian, rows are the old state, and W_hi is the block of W_h that belongs to i:
    dc_t/dh_{t-1} = W_hi diag(s_i) + W_hg diag(s_g)                             (7)
    dh_t/dh_{t-1} = dc_t/dh_{t-1} diag(q) + W_ho diag(s_o)                      (8)
    dc_t/dc_{t-1} = 1    dh_t/dc_{t-1} = diag(q)                                (9)
The constant error carousel, truncation `cec`, takes h_{t-1} in (1) for a constant: (7) and (8) are 0       (10)
Immediate partials of v_h = dL/dh_t and v_c = dL/dc_t, with or without (10): with v = v_c + v_h∘q,
    delta = [v∘s_i   v∘s_g   v_h∘s_o]                                           (11)
    dW_x = x_t^T delta,  dW_h = h_{t-1}^T delta,  db = delta                    (12)
    dx_t = delta W_x^T                                                          (13)

Source: Hochreiter and Schmidhuber (1997), the cell and the truncation (10); tanh stands in both places where they have
scaled logistic functions. (5) to (9) and (11) to (13) are derived from (1) to (4) by the chain rule.
"""

from __future__ import annotations

from typing import Any

from bptt.arithmetic import Arithmetic
from bptt.cells.base import Cell


class LSTM1997(Cell):
    """c = c_prev + i∘g, h = o∘tanh(c): errors in c neither vanish nor explode."""

    name = "lstm_1997"
    title = "LSTM without forget gate"
    equations = (
        "[a_i a_g a_o] = x W_x + h₋ W_h + b",
        "i, o = σ(a_i), σ(a_o); g = tanh(a_g)",
        "c = c₋ + i∘g",
        "h = o∘tanh(c)",
    )
    states = ("h", "c")
    truncations = (*Cell.truncations, "cec")

    def shapes(self, D: int, H: int) -> dict[str, tuple[int, ...]]:
        return {"W_x": (D, 3 * H), "W_h": (H, 3 * H), "b": (3 * H,)}

    def prepare(self, A: Arithmetic[Any], params: dict[str, Any], H: int) -> dict[str, Any]:
        return {**params, "H": H}

    def step(
        self, A: Arithmetic[Any], w: dict[str, Any], x_t: Any, state: dict[str, Any], activation: str | None, cec: bool
    ) -> dict[str, Any]:
        H = w["H"]
        h_prev = A.hold(state["h"]) if cec else state["h"]  # (10)
        a = A.linear([(x_t, w["W_x"]), (h_prev, w["W_h"])], [w["b"]])  # (1)
        i, o = A.sigmoid(A.columns(a, 0, H)), A.sigmoid(A.columns(a, 2 * H, 3 * H))  # (2)
        g = A.tanh(A.columns(a, H, 2 * H))
        c = A.add(state["c"], A.mul(i, g))  # (3)
        return {"h": A.mul(o, A.tanh(c)), "c": c}  # (4)

    def local(
        self, N: Any, w: dict[str, Any], x_t: Any, state: dict[str, Any], activation: str | None, cec: bool
    ) -> tuple[Any, Any]:
        h_prev, c_prev, H = state["h"], state["c"], state["h"].cols
        a = N.add(N.add(N.matmul(x_t, w["W_x"]), N.matmul(h_prev, w["W_h"])), w["b"])
        a_i, a_g, a_o = (N.columns(a, k * H, (k + 1) * H) for k in range(3))
        W_hi, W_hg, W_ho = (N.columns(w["W_h"], k * H, (k + 1) * H) for k in range(3))
        i, g, o = N.activate("sigmoid", a_i), N.activate("tanh", a_g), N.activate("sigmoid", a_o)
        c = N.add(c_prev, N.mul(i, g))

        s_i, s_g = N.mul(g, N.slope("sigmoid", a_i)), N.mul(i, N.slope("tanh", a_g))  # (5)
        s_o, q = N.mul(N.activate("tanh", c), N.slope("sigmoid", a_o)), N.mul(o, N.slope("tanh", c))  # (6)

        c_by_h = N.add(N.scale_columns(W_hi, s_i), N.scale_columns(W_hg, s_g))  # (7)
        h_by_h = N.add(N.scale_columns(c_by_h, q), N.scale_columns(W_ho, s_o))  # (8)
        if cec:
            c_by_h = h_by_h = N.zeros(H, H)  # (10)
        J = N.blocks([[h_by_h, c_by_h], [N.diagonal(q), N.eye(H)]])  # (9)

        def pull(dnew: Any) -> dict[str, Any]:
            v_h, v_c = N.columns(dnew, 0, H), N.columns(dnew, H, 2 * H)
            v = N.add(v_c, N.mul(v_h, q))
            delta = N.blocks([[N.mul(v, s_i), N.mul(v, s_g), N.mul(v_h, s_o)]])  # (11)
            return {
                "W_x": N.outer(x_t, delta),  # (12)
                "W_h": N.outer(h_prev, delta),
                "b": delta,
                "x": N.matmul_nt(delta, w["W_x"]),  # (13)
            }

        return J, pull


CELL = LSTM1997()
