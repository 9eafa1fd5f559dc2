"""The trace: a cell's equations, evaluated in a number system and written down operation by operation.

Each operation of `bptt.arithmetic.Arithmetic` becomes one node that knows its inputs and its value. The reverse mode
(oracle.reverse) and the rounding-error budget (oracle.budget) both read it; neither knows any cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oracle.numbers import Matrix, Numbers


class Node:
    """One operation. `op` is the operation's name or `leaf`; for a leaf `name` is the parameter, `x`, or the state.

    inputs   the nodes that it reads; for `linear` first X, W of each product in turn, then the addends
    products how many products a `linear` has
    slope    phi'(a) of an activation, filled in when first asked for
    """

    __slots__ = ("extra", "inputs", "name", "op", "products", "slope", "value")

    def __init__(
        self, op: str, value: Matrix, inputs: tuple[Node, ...] = (), name: str = "", extra: Any = None
    ) -> None:
        self.op = op
        self.value = value
        self.inputs = inputs
        self.name = name
        self.extra = extra
        self.products = 0
        self.slope: Matrix | None = None

    @property
    def constant(self) -> bool:
        """A parameter, or a block of one: the same node at every step."""
        return (
            self.name not in ("x", "h", "c") if self.op == "leaf" else self.op == "columns" and self.inputs[0].constant
        )


class Trace:
    """An `Arithmetic` over `Numbers` that records; `nodes` are those of the step at hand."""

    def __init__(self, numbers: Numbers) -> None:
        self.N = numbers
        self.nodes: list[Node] = []
        self.stacked: dict[int, list[Matrix]] = {}  # id of W: x_t W for every t, computed in one product

    def _record(self, op: str, value: Matrix, *inputs: Node, extra: Any = None) -> Node:
        node = Node(op, value, inputs, extra=extra)
        self.nodes.append(node)
        return node

    def linear(self, products: Sequence[tuple[Node, Node]], addends: Sequence[Node] = ()) -> Node:
        """Sum of X W over the products, and of the addends."""
        total: Matrix | None = None
        for X, W in products:
            term = self._product(X, W)
            total = term if total is None else self.N.add(total, term)
        for addend in addends:
            total = addend.value if total is None else self.N.add(total, addend.value)
        assert total is not None
        flat = [node for pair in products for node in pair]
        node = self._record("linear", total, *flat, *addends)
        node.products = len(products)
        return node

    def _product(self, X: Node, W: Node) -> Matrix:
        if X.op == "leaf" and X.name == "x" and X.extra is not None:
            all_steps, t = X.extra
            if id(W) not in self.stacked:
                product = self.N.matmul(all_steps, W.value)
                n = X.value.rows * product.cols
                self.stacked[id(W)] = [
                    Matrix(X.value.rows, product.cols, product.data[i * n : (i + 1) * n])
                    for i in range(all_steps.rows // X.value.rows)
                ]
            step: Matrix = self.stacked[id(W)][t]
            return step
        return self.N.matmul(X.value, W.value)

    def columns(self, value: Node, start: int, stop: int) -> Node:
        """Columns start..stop-1."""
        return self._record("columns", self.N.columns(value.value, start, stop), value, extra=(start, stop))

    def mul(self, a: Node, b: Node) -> Node:
        """a o b."""
        return self._record("mul", self.N.mul(a.value, b.value), a, b)

    def add(self, a: Node, b: Node) -> Node:
        """a + b."""
        return self._record("add", self.N.add(a.value, b.value), a, b)

    def mix(self, z: Node, n: Node, h: Node) -> Node:
        """(1-z) o n + z o h."""
        N = self.N
        return self._record("mix", N.add(n.value, N.mul(z.value, N.sub(h.value, n.value))), z, n, h)

    def _activation(self, name: str, a: Node) -> Node:
        return self._record(name, self.N.activate(name, a.value), a)

    def tanh(self, a: Node) -> Node:
        """Entrywise."""
        return self._activation("tanh", a)

    def sigmoid(self, a: Node) -> Node:
        """Entrywise."""
        return self._activation("sigmoid", a)

    def relu(self, a: Node) -> Node:
        """Entrywise."""
        return self._activation("relu", a)

    def identity(self, a: Node) -> Node:
        """The value itself."""
        return self._activation("identity", a)

    def hold(self, a: Node) -> Node:
        """The value itself; errors do not travel back through it."""
        return self._record("hold", a.value, a)
