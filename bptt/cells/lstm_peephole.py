"""The LSTM cell with a forget gate and peepholes; the columns of W_x, W_h and b belong to the gates i, f, g, o.

    [u_i u_f u_g u_o] = x_t W_x + h_{t-1} W_h + b                               (1)
    i = sigma(u_i + p_i∘c_{t-1})    f = sigma(u_f + p_f∘c_{t-1})    g = tanh(u_g)    (2)
    c_t = f∘c_{t-1} + i∘g                                                       (3)
    o = sigma(u_o + p_o∘c_t)                                                    (4)
    h_t = o∘tanh(c_t)                                                           (5)

The slopes of the new states, entrywise; q is dh_t/dc_t, by way of tanh and by way of o, r is dc_t/dc_{t-1}:
    s_i = g∘i∘(1-i)    s_f = c_{t-1}∘f∘(1-f)    s_g = i∘(1-g^2)                 (6)
    s_o = tanh(c_t)∘o∘(1-o)    q = o∘(1-tanh(c_t)^2) + s_o∘p_o                  (7)
    r = f + s_i∘p_i + s_f∘p_f                                                   (8)
Jacobian, rows are the old state, and W_hi is the block of W_h that belongs to i:
    dc_t/dh_{t-1} = W_hi diag(s_i) + W_hf diag(s_f) + W_hg diag(s_g)            (9)
    dh_t/dh_{t-1} = dc_t/dh_{t-1} diag(q) + W_ho diag(s_o)                      (10)
    dc_t/dc_{t-1} = diag(r)    dh_t/dc_{t-1} = diag(r∘q)                        (11)
Immediate partials of v_h = dL/dh_t and v_c = dL/dc_t: with v = v_c + v_h∘q,
    delta = [delta_i delta_f delta_g delta_o] = [v∘s_i   v∘s_f   v∘s_g   v_h∘s_o]    (12)
    dW_x = x_t^T delta,  dW_h = h_{t-1}^T delta,  db = delta                    (13)
    dp_i = delta_i∘c_{t-1},  dp_f = delta_f∘c_{t-1},  dp_o = delta_o∘c_t        (14)
    dx_t = delta W_x^T                                                          (15)

Source: Gers, Schraudolph and Schmidhuber (2002), the peepholes, one weight a unit; the rest as the cell `lstm`.
(6) to (15) are derived from (1) to (5) by the chain rule.
"""

from __future__ import annotations

from typing import Any

from bptt.arithmetic import Arithmetic
from bptt.cells.base import Cell


class LSTMPeephole(Cell):
    """The LSTM whose gates i and f see c_prev and whose gate o sees c."""

    name = "lstm_peephole"
    title = "LSTM with forget gate and peepholes"
    equations = (
        "[a_i a_f a_g a_o] = x W_x + h₋ W_h + b",
        "i = σ(a_i + p_i∘c₋), f = σ(a_f + p_f∘c₋), g = tanh(a_g)",
        "c = f∘c₋ + i∘g",
        "o = σ(a_o + p_o∘c)",
        "h = o∘tanh(c)",
    )
    states = ("h", "c")

    def shapes(self, D: int, H: int) -> dict[str, tuple[int, ...]]:
        gates = {"W_x": (D, 4 * H), "W_h": (H, 4 * H), "b": (4 * H,)}
        return gates | {"p_i": (H,), "p_f": (H,), "p_o": (H,)}

    def prepare(self, A: Arithmetic[Any], params: dict[str, Any], H: int) -> dict[str, Any]:
        w = {name: params[name] for name in ("p_i", "p_f", "p_o")}
        for k, gate in enumerate("ifgo"):
            for name in ("W_x", "W_h", "b"):
                w[f"{name}_{gate}"] = A.columns(params[name], k * H, (k + 1) * H)
        return w

    def step(
        self, A: Arithmetic[Any], w: dict[str, Any], x_t: Any, state: dict[str, Any], activation: str | None, cec: bool
    ) -> dict[str, Any]:
        h_prev, c_prev = state["h"], state["c"]

        def sum_of(gate: str, *peephole: Any) -> Any:  # (1)
            products = [(x_t, w[f"W_x_{gate}"]), (h_prev, w[f"W_h_{gate}"])]
            return A.linear(products, [w[f"b_{gate}"], *peephole])

        i = A.sigmoid(sum_of("i", A.mul(w["p_i"], c_prev)))  # (2)
        f = A.sigmoid(sum_of("f", A.mul(w["p_f"], c_prev)))
        g = A.tanh(sum_of("g"))
        c = A.add(A.mul(f, c_prev), A.mul(i, g))  # (3)
        o = A.sigmoid(sum_of("o", A.mul(w["p_o"], c)))  # (4)
        return {"h": A.mul(o, A.tanh(c)), "c": c}  # (5)

    def local(
        self, N: Any, w: dict[str, Any], x_t: Any, state: dict[str, Any], activation: str | None, cec: bool
    ) -> tuple[Any, Any]:
        h_prev, c_prev, H = state["h"], state["c"], state["h"].cols
        p_i, p_f, p_o = w["p_i"], w["p_f"], w["p_o"]
        u = N.add(N.add(N.matmul(x_t, w["W_x"]), N.matmul(h_prev, w["W_h"])), w["b"])
        u_i, u_f, a_g, u_o = (N.columns(u, k * H, (k + 1) * H) for k in range(4))
        W_hi, W_hf, W_hg, W_ho = (N.columns(w["W_h"], k * H, (k + 1) * H) for k in range(4))
        a_i, a_f = N.add(u_i, N.mul(p_i, c_prev)), N.add(u_f, N.mul(p_f, c_prev))
        i, f, g = N.activate("sigmoid", a_i), N.activate("sigmoid", a_f), N.activate("tanh", a_g)
        c = N.add(N.mul(f, c_prev), N.mul(i, g))
        a_o = N.add(u_o, N.mul(p_o, c))
        o = N.activate("sigmoid", a_o)

        s_i, s_f = N.mul(g, N.slope("sigmoid", a_i)), N.mul(c_prev, N.slope("sigmoid", a_f))  # (6)
        s_g = N.mul(i, N.slope("tanh", a_g))
        s_o = N.mul(N.activate("tanh", c), N.slope("sigmoid", a_o))  # (7)
        q = N.add(N.mul(o, N.slope("tanh", c)), N.mul(s_o, p_o))
        r = N.add(f, N.add(N.mul(s_i, p_i), N.mul(s_f, p_f)))  # (8)

        c_by_h = N.add(N.add(N.scale_columns(W_hi, s_i), N.scale_columns(W_hf, s_f)), N.scale_columns(W_hg, s_g))  # (9)
        h_by_h = N.add(N.scale_columns(c_by_h, q), N.scale_columns(W_ho, s_o))  # (10)
        J = N.blocks([[h_by_h, c_by_h], [N.diagonal(N.mul(r, q)), N.diagonal(r)]])  # (11)

        def pull(dnew: Any) -> dict[str, Any]:
            v_h, v_c = N.columns(dnew, 0, H), N.columns(dnew, H, 2 * H)
            v = N.add(v_c, N.mul(v_h, q))
            delta_i, delta_f, delta_g, delta_o = N.mul(v, s_i), N.mul(v, s_f), N.mul(v, s_g), N.mul(v_h, s_o)  # (12)
            delta = N.blocks([[delta_i, delta_f, delta_g, delta_o]])
            return {
                "W_x": N.outer(x_t, delta),  # (13)
                "W_h": N.outer(h_prev, delta),
                "b": delta,
                "p_i": N.mul(delta_i, c_prev),  # (14)
                "p_f": N.mul(delta_f, c_prev),
                "p_o": N.mul(delta_o, c),
                "x": N.matmul_nt(delta, w["W_x"]),  # (15)
            }

        return J, pull


CELL = LSTMPeephole()
