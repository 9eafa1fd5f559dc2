"""The Elman cell: h = phi(a), with phi one of tanh, sigmoid, relu, identity.

    a_t = x_t W_xh + h_{t-1} W_hh + b_h                                     (1)
    h_t = phi(a_t)                                                          (2)

Jacobian, rows are h_{t-1}: dh_t/dh_{t-1} = W_hh diag(phi'(a_t))            (3)
Immediate partials of v = dL/dh_t: with delta = v o phi'(a_t),
    dW_xh = x_t^T delta,  dW_hh = h_{t-1}^T delta,  db_h = delta            (4)
    dx_t = delta W_xh^T                                                     (5)

Source: Elman (1990), the cell; (3) to (5) are derived from (1) and (2) by the chain rule.
"""

from __future__ import annotations

from typing import Any

from bptt.arithmetic import Arithmetic
from bptt.cells.base import Cell


class Elman(Cell):
    """h = phi(x W_xh + h_prev W_hh + b_h)."""

    name = "elman"
    title = "Elman network"
    equations = ("a = x W_xh + h₋ W_hh + b_h", "h = φ(a)")
    activations = ("tanh", "sigmoid", "relu", "identity")

    def shapes(self, D: int, H: int) -> dict[str, tuple[int, ...]]:
        return {"W_xh": (D, H), "W_hh": (H, H), "b_h": (H,)}

    def prepare(self, A: Arithmetic[Any], params: dict[str, Any], H: int) -> dict[str, Any]:
        return params

    def step(
        self, A: Arithmetic[Any], w: dict[str, Any], x_t: Any, state: dict[str, Any], activation: str | None, cec: bool
    ) -> dict[str, Any]:
        a = A.linear([(x_t, w["W_xh"]), (state["h"], w["W_hh"])], [w["b_h"]])  # (1)
        return {"h": getattr(A, str(activation))(a)}  # (2)

    def local(
        self, N: Any, w: dict[str, Any], x_t: Any, state: dict[str, Any], activation: str | None, cec: bool
    ) -> tuple[Any, Any]:
        h_prev = state["h"]
        a = N.add(N.add(N.matmul(x_t, w["W_xh"]), N.matmul(h_prev, w["W_hh"])), w["b_h"])
        slope = N.slope(str(activation), a)
        J = N.scale_columns(w["W_hh"], slope)  # (3)

        def pull(v: Any) -> dict[str, Any]:
            delta = N.mul(v, slope)
            return {
                "W_xh": N.outer(x_t, delta),  # (4)
                "W_hh": N.outer(h_prev, delta),
                "b_h": delta,
                "x": N.matmul_nt(delta, w["W_xh"]),  # (5)
            }

        return J, pull


CELL = Elman()
