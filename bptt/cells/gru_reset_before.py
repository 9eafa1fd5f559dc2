"""The GRU cell that resets the state before the recurrent product; the columns of W_x, W_h and b belong to r, z, n.

    [r z] = sigma(x_t W_xrz + h_{t-1} W_hrz + b_rz)                             (1)
    k = r∘h_{t-1}                                                               (2)
    n = tanh(x_t W_xn + k W_hn + b_n)                                           (3)
    h_t = (1-z)∘n + z∘h_{t-1}                                                   (4)

W_xrz is the block of W_x that belongs to r and z, and so on. The slopes, entrywise:
    s_n = (1-z)∘(1-n^2)    s_z = (h_{t-1}-n)∘z∘(1-z)    s_r = h_{t-1}∘r∘(1-r)   (5)
Jacobian, rows are h_{t-1}:
    dk/dh_{t-1} = diag(r) + W_hr diag(s_r)                                      (6)
    dh_t/dh_{t-1} = diag(z) + W_hz diag(s_z) + dk/dh_{t-1} W_hn diag(s_n)       (7)
Immediate partials of v = dL/dh_t: with delta_n = v∘s_n,
    delta = [delta_r delta_z delta_n] = [(delta_n W_hn^T)∘s_r   v∘s_z   delta_n]    (8)
    dW_x = x_t^T delta,  dW_h = [h_{t-1}^T [delta_r delta_z]   k^T delta_n],  db = delta    (9)
    dx_t = delta W_x^T                                                          (10)

Source: Cho et al. (2014), with biases, which they leave out of their notation. (5) to (10) are derived from (1) to (4)
by the chain rule.
"""

from __future__ import annotations

from typing import Any

from bptt.arithmetic import Arithmetic
from bptt.cells.base import Cell


class GRUResetBefore(Cell):
    """h = (1-z)∘n + z∘h_prev with n = tanh(x W_xn + (r∘h_prev) W_hn + b_n)."""

    name = "gru_reset_before"
    title = "GRU, reset before the product"
    equations = (
        "[r z] = σ(x W_x + h₋ W_h + b)",
        "n = tanh(x W_xn + (r∘h₋) W_hn + b_n)",
        "h = (1−z)∘n + z∘h₋",
    )

    def shapes(self, D: int, H: int) -> dict[str, tuple[int, ...]]:
        return {"W_x": (D, 3 * H), "W_h": (H, 3 * H), "b": (3 * H,)}

    def prepare(self, A: Arithmetic[Any], params: dict[str, Any], H: int) -> dict[str, Any]:
        w: dict[str, Any] = {"H": H}
        for name, block in (("W_x", "W_x"), ("W_h", "W_h"), ("b", "b_")):
            w[f"{block}rz"] = A.columns(params[name], 0, 2 * H)
            w[f"{block}n"] = A.columns(params[name], 2 * H, 3 * H)
        return w

    def step(
        self, A: Arithmetic[Any], w: dict[str, Any], x_t: Any, state: dict[str, Any], activation: str | None, cec: bool
    ) -> dict[str, Any]:
        h_prev, H = state["h"], w["H"]
        a = A.linear([(x_t, w["W_xrz"]), (h_prev, w["W_hrz"])], [w["b_rz"]])  # (1)
        r, z = A.sigmoid(A.columns(a, 0, H)), A.sigmoid(A.columns(a, H, 2 * H))
        k = A.mul(r, h_prev)  # (2)
        n = A.tanh(A.linear([(x_t, w["W_xn"]), (k, w["W_hn"])], [w["b_n"]]))  # (3)
        return {"h": A.mix(z, n, h_prev)}  # (4)

    def local(
        self, N: Any, w: dict[str, Any], x_t: Any, state: dict[str, Any], activation: str | None, cec: bool
    ) -> tuple[Any, Any]:
        h_prev, H = state["h"], state["h"].cols
        W_hr, W_hz, W_hn = (N.columns(w["W_h"], k * H, (k + 1) * H) for k in range(3))
        from_x = N.add(N.matmul(x_t, w["W_x"]), w["b"])
        u_r, u_z, u_n = (N.columns(from_x, k * H, (k + 1) * H) for k in range(3))
        a_r, a_z = N.add(u_r, N.matmul(h_prev, W_hr)), N.add(u_z, N.matmul(h_prev, W_hz))
        r, z = N.activate("sigmoid", a_r), N.activate("sigmoid", a_z)
        k = N.mul(r, h_prev)
        a_n = N.add(u_n, N.matmul(k, W_hn))
        n = N.activate("tanh", a_n)

        s_n = N.mul(N.one_minus(z), N.slope("tanh", a_n))  # (5)
        s_z = N.mul(N.sub(h_prev, n), N.slope("sigmoid", a_z))
        s_r = N.mul(h_prev, N.slope("sigmoid", a_r))

        k_by_h = N.add(N.diagonal(r), N.scale_columns(W_hr, s_r))  # (6)
        through_n = N.scale_columns(N.matmul(k_by_h, W_hn), s_n)
        J = N.add(N.add(N.diagonal(z), N.scale_columns(W_hz, s_z)), through_n)  # (7)

        def pull(v: Any) -> dict[str, Any]:
            delta_n = N.mul(v, s_n)
            delta_rz = N.blocks([[N.mul(N.matmul_nt(delta_n, W_hn), s_r), N.mul(v, s_z)]])
            delta = N.blocks([[delta_rz, delta_n]])  # (8)
            return {
                "W_x": N.outer(x_t, delta),  # (9)
                "W_h": N.blocks([[N.outer(h_prev, delta_rz), N.outer(k, delta_n)]]),
                "b": delta,
                "x": N.matmul_nt(delta, w["W_x"]),  # (10)
            }

        return J, pull


CELL = GRUResetBefore()
