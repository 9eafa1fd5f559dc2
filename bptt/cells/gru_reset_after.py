"""The GRU cell that resets after the recurrent product; the columns of W_x, W_h, b_x and b_h belong to r, z, n.

    [r z] = sigma(x_t W_xrz + b_xrz + h_{t-1} W_hrz + b_hrz)                    (1)
    m = h_{t-1} W_hn + b_hn                                                     (2)
    n = tanh(x_t W_xn + b_xn + r∘m)                                             (3)
    h_t = (1-z)∘n + z∘h_{t-1}                                                   (4)

W_xrz is the block of W_x that belongs to r and z, and so on. The slopes of h_t, entrywise:
    s_n = (1-z)∘(1-n^2)    s_z = (h_{t-1}-n)∘z∘(1-z)    s_r = s_n∘m∘r∘(1-r)     (5)
Jacobian, rows are h_{t-1}:
    dh_t/dh_{t-1} = diag(z) + W_hr diag(s_r) + W_hz diag(s_z) + W_hn diag(s_n∘r)    (6)
Immediate partials of v = dL/dh_t:
    delta_x = [v∘s_r   v∘s_z   v∘s_n]    delta_h = [v∘s_r   v∘s_z   v∘s_n∘r]    (7)
    dW_x = x_t^T delta_x,  dW_h = h_{t-1}^T delta_h,  db_x = delta_x,  db_h = delta_h    (8)
    dx_t = delta_x W_x^T                                                        (9)

Source: Cho et al. (2014), the gates; cuDNN and PyTorch, the reset after the product, the two biases and the order of
the columns. (5) to (9) are derived from (1) to (4) by the chain rule.
"""

from __future__ import annotations

from typing import Any

from bptt.arithmetic import Arithmetic
from bptt.cells.base import Cell


class GRUResetAfter(Cell):
    """h = (1-z)∘n + z∘h_prev with n = tanh(x W_xn + b_xn + r∘(h_prev W_hn + b_hn))."""

    name = "gru_reset_after"
    title = "GRU, reset after the product"
    equations = (
        "[r z] = σ(x W_x + b_x + h₋ W_h + b_h)",
        "n = tanh(x W_xn + b_xn + r∘(h₋ W_hn + b_hn))",
        "h = (1−z)∘n + z∘h₋",
    )

    def shapes(self, D: int, H: int) -> dict[str, tuple[int, ...]]:
        return {"W_x": (D, 3 * H), "W_h": (H, 3 * H), "b_x": (3 * H,), "b_h": (3 * H,)}

    def prepare(self, A: Arithmetic[Any], params: dict[str, Any], H: int) -> dict[str, Any]:
        w: dict[str, Any] = {"H": H}
        for name in ("W_x", "W_h", "b_x", "b_h"):
            w[f"{name}rz"] = A.columns(params[name], 0, 2 * H)
            w[f"{name}n"] = A.columns(params[name], 2 * H, 3 * H)
        return w

    def step(
        self, A: Arithmetic[Any], w: dict[str, Any], x_t: Any, state: dict[str, Any], activation: str | None, cec: bool
    ) -> dict[str, Any]:
        h_prev, H = state["h"], w["H"]
        a = A.linear([(x_t, w["W_xrz"]), (h_prev, w["W_hrz"])], [w["b_xrz"], w["b_hrz"]])  # (1)
        r, z = A.sigmoid(A.columns(a, 0, H)), A.sigmoid(A.columns(a, H, 2 * H))
        m = A.linear([(h_prev, w["W_hn"])], [w["b_hn"]])  # (2)
        n = A.tanh(A.linear([(x_t, w["W_xn"])], [w["b_xn"], A.mul(r, m)]))  # (3)
        return {"h": A.mix(z, n, h_prev)}  # (4)

    def local(
        self, N: Any, w: dict[str, Any], x_t: Any, state: dict[str, Any], activation: str | None, cec: bool
    ) -> tuple[Any, Any]:
        h_prev, H = state["h"], state["h"].cols
        from_x, from_h = N.add(N.matmul(x_t, w["W_x"]), w["b_x"]), N.add(N.matmul(h_prev, w["W_h"]), w["b_h"])
        u_r, u_z, u_n = (N.columns(from_x, k * H, (k + 1) * H) for k in range(3))
        m_r, m_z, m = (N.columns(from_h, k * H, (k + 1) * H) for k in range(3))
        W_hr, W_hz, W_hn = (N.columns(w["W_h"], k * H, (k + 1) * H) for k in range(3))
        a_r, a_z = N.add(u_r, m_r), N.add(u_z, m_z)
        r, z = N.activate("sigmoid", a_r), N.activate("sigmoid", a_z)
        a_n = N.add(u_n, N.mul(r, m))
        n = N.activate("tanh", a_n)

        s_n = N.mul(N.one_minus(z), N.slope("tanh", a_n))  # (5)
        s_z = N.mul(N.sub(h_prev, n), N.slope("sigmoid", a_z))
        s_r = N.mul(N.mul(s_n, m), N.slope("sigmoid", a_r))

        J = N.diagonal(z)  # (6)
        for W, s in ((W_hr, s_r), (W_hz, s_z), (W_hn, N.mul(s_n, r))):
            J = N.add(J, N.scale_columns(W, s))

        def pull(v: Any) -> dict[str, Any]:
            delta_r, delta_z, delta_n = N.mul(v, s_r), N.mul(v, s_z), N.mul(v, s_n)
            delta_x = N.blocks([[delta_r, delta_z, delta_n]])  # (7)
            delta_h = N.blocks([[delta_r, delta_z, N.mul(delta_n, r)]])
            return {
                "W_x": N.outer(x_t, delta_x),  # (8)
                "W_h": N.outer(h_prev, delta_h),
                "b_x": delta_x,
                "b_h": delta_h,
                "x": N.matmul_nt(delta_x, w["W_x"]),  # (9)
            }

        return J, pull


CELL = GRUResetAfter()
