"""The LSTM cell with a forget gate; the columns of W_x, W_h and b belong to the gates i, f, g, o.

    [a_i a_f a_g a_o] = x_t W_x + h_{t-1} W_h + b                               (1)
    i, f, o = sigma(a_i), sigma(a_f), sigma(a_o)    g = tanh(a_g)               (2)
    c_t = f∘c_{t-1} + i∘g                                                       (3)
    h_t = o∘tanh(c_t)                                                           (4)

The slopes of the new states, entrywise; q is dh_t/dc_t at fixed o:
    s_i = g∘i∘(1-i)    s_f = c_{t-1}∘f∘(1-f)    s_g = i∘(1-g^2)                 (5)
    s_o = tanh(c_t)∘o∘(1-o)    q = o∘(1-tanh(c_t)^2)                            (6)
Jacobian, rows are the old state, and W_hi is the block of W_h that belongs to i:
    dc_t/dh_{t-1} = W_hi diag(s_i) + W_hf diag(s_f) + W_hg diag(s_g)            (7)
    dh_t/dh_{t-1} = dc_t/dh_{t-1} diag(q) + W_ho diag(s_o)                      (8)
    dc_t/dc_{t-1} = diag(f)    dh_t/dc_{t-1} = diag(f∘q)                        (9)
Immediate partials of v_h = dL/dh_t and v_c = dL/dc_t: with v = v_c + v_h∘q,
    delta = [v∘s_i   v∘s_f   v∘s_g   v_h∘s_o]                                   (10)
    dW_x = x_t^T delta,  dW_h = h_{t-1}^T delta,  db = delta                    (11)
    dx_t = delta W_x^T                                                          (12)

Source: Hochreiter and Schmidhuber (1997), the cell; Gers, Schmidhuber and Cummins (2000), its forget gate f; the order
of the columns is that of PyTorch. (5) to (12) are derived from (1) to (4) by the chain rule.
"""

from __future__ import annotations

from typing import Any

from bptt.arithmetic import Arithmetic
from bptt.cells.base import Cell


class LSTM(Cell):
    """c = f∘c_prev + i∘g, h = o∘tanh(c)."""

    name = "lstm"
    title = "LSTM with forget gate"
    equations = (
        "[a_i a_f a_g a_o] = x W_x + h₋ W_h + b",
        "i, f, o = σ(a_i), σ(a_f), σ(a_o); g = tanh(a_g)",
        "c = f∘c₋ + i∘g",
        "h = o∘tanh(c)",
    )
    states = ("h", "c")

    def shapes(self, D: int, H: int) -> dict[str, tuple[int, ...]]:
        return {"W_x": (D, 4 * H), "W_h": (H, 4 * H), "b": (4 * H,)}

    def prepare(self, A: Arithmetic[Any], params: dict[str, Any], H: int) -> dict[str, Any]:
        return {**params, "H": H}

    def step(
        self, A: Arithmetic[Any], w: dict[str, Any], x_t: Any, state: dict[str, Any], activation: str | None, cec: bool
    ) -> dict[str, Any]:
        H = w["H"]
        a = A.linear([(x_t, w["W_x"]), (state["h"], w["W_h"])], [w["b"]])  # (1)
        i, f = A.sigmoid(A.columns(a, 0, H)), A.sigmoid(A.columns(a, H, 2 * H))  # (2)
        g, o = A.tanh(A.columns(a, 2 * H, 3 * H)), A.sigmoid(A.columns(a, 3 * H, 4 * H))
        c = A.add(A.mul(f, state["c"]), A.mul(i, g))  # (3)
        return {"h": A.mul(o, A.tanh(c)), "c": c}  # (4)

    def local(
        self, N: Any, w: dict[str, Any], x_t: Any, state: dict[str, Any], activation: str | None, cec: bool
    ) -> tuple[Any, Any]:
        h_prev, c_prev, H = state["h"], state["c"], state["h"].cols
        a = N.add(N.add(N.matmul(x_t, w["W_x"]), N.matmul(h_prev, w["W_h"])), w["b"])
        a_i, a_f, a_g, a_o = (N.columns(a, k * H, (k + 1) * H) for k in range(4))
        W_hi, W_hf, W_hg, W_ho = (N.columns(w["W_h"], k * H, (k + 1) * H) for k in range(4))
        i, f, o = (N.activate("sigmoid", a_k) for a_k in (a_i, a_f, a_o))
        g = N.activate("tanh", a_g)
        c = N.add(N.mul(f, c_prev), N.mul(i, g))

        s_i, s_f = N.mul(g, N.slope("sigmoid", a_i)), N.mul(c_prev, N.slope("sigmoid", a_f))  # (5)
        s_g = N.mul(i, N.slope("tanh", a_g))
        s_o, q = N.mul(N.activate("tanh", c), N.slope("sigmoid", a_o)), N.mul(o, N.slope("tanh", c))  # (6)

        c_by_h = N.add(N.add(N.scale_columns(W_hi, s_i), N.scale_columns(W_hf, s_f)), N.scale_columns(W_hg, s_g))  # (7)
        h_by_h = N.add(N.scale_columns(c_by_h, q), N.scale_columns(W_ho, s_o))  # (8)
        J = N.blocks([[h_by_h, c_by_h], [N.diagonal(N.mul(f, q)), N.diagonal(f)]])  # (9)

        def pull(dnew: Any) -> dict[str, Any]:
            v_h, v_c = N.columns(dnew, 0, H), N.columns(dnew, H, 2 * H)
            v = N.add(v_c, N.mul(v_h, q))
            delta = N.blocks([[N.mul(v, s_i), N.mul(v, s_f), N.mul(v, s_g), N.mul(v_h, s_o)]])  # (10)
            return {
                "W_x": N.outer(x_t, delta),  # (11)
                "W_h": N.outer(h_prev, delta),
                "b": delta,
                "x": N.matmul_nt(delta, w["W_x"]),  # (12)
            }

        return J, pull


CELL = LSTM()
