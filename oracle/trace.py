"""The trace: a cell's equations, evaluated in a number system and written down operation by operation.

Each operation of `bptt.arithmetic.Arithmetic` becomes one node that knows its inputs and its value. The reverse mode
(oracle.reverse) and the rounding-error budget (oracle.budget) both read it; neither knows any cell.

A `linear` is computed as one product, of its inputs beside one another with its parameters below one another:

    X_1 W_1 + X_2 W_2 + b = U V        U = [X_1 X_2 1]    V = [W_1; W_2; b]                        (1)

so that the parameters' gradients are one product too: dV = U^T dz.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oracle.numbers import Matrix, Numbers, stack


class Node:
    """One operation. `op` is the operation's name or `leaf`; for a leaf `name` is the parameter, `x`, or the state.

    inputs   the nodes that it reads; for `linear` first X, W of each product in turn, then the addends
    products how many products a `linear` has
    left     U of (1), for a linear
    below    whose values V of (1) is made of, in order, for a linear
    constant whether it is a parameter, or a block of one: the same node at every step
    slope    phi'(a) of an activation, filled in by the reverse mode
    """

    __slots__ = ("below", "constant", "extra", "inputs", "left", "name", "op", "products", "slope", "value")

    def __init__(
        self, op: str, value: Matrix, inputs: tuple[Node, ...] = (), name: str = "", extra: Any = None
    ) -> None:
        self.op = op
        self.value = value
        self.inputs = inputs
        self.name = name
        self.extra = extra
        self.products = 0
        self.left: Matrix | None = None
        self.below: tuple[Node, ...] = ()
        self.constant: bool = name not in ("x", "h", "c") if op == "leaf" else op == "columns" and inputs[0].constant
        self.slope: Matrix | None = None

    @property
    def pairs(self) -> list[tuple[Node, Node]]:
        """(X, W) of each product of a linear."""
        return list(zip(self.inputs[: 2 * self.products : 2], self.inputs[1 : 2 * self.products : 2], strict=True))


class Trace:
    """An `Arithmetic` over `Numbers` that records; `nodes` are those of the step at hand."""

    def __init__(self, numbers: Numbers) -> None:
        self.N = numbers
        self.nodes: list[Node] = []
        self.stacked: dict[tuple[Node, ...], Matrix] = {}  # V of (1), by what it is made of
        self.ones: dict[tuple[int, int], Matrix] = {}

    def _record(self, op: str, value: Matrix, *inputs: Node, extra: Any = None) -> Node:
        node = Node(op, value, inputs, extra=extra)
        self.nodes.append(node)
        return node

    def linear(self, products: Sequence[tuple[Node, Node]], addends: Sequence[Node] = ()) -> Node:
        """Sum of X W over the products, and of the addends."""
        constants = [node for node in addends if node.constant]
        below = (*(W for _, W in products), *constants)
        beside = [X.value for X, _ in products]
        if constants:
            beside.append(self._ones(beside[0].rows, len(constants)))
        left = self.N.beside(beside)
        total = self.N.matmul(left, self._below(below))
        for addend in addends:
            if not addend.constant:
                total = self.N.add(total, addend.value)
        node = self._record("linear", total, *(node for pair in products for node in pair), *addends)
        node.products, node.left, node.below = len(products), left, below
        return node

    def _ones(self, rows: int, cols: int) -> Matrix:
        if (rows, cols) not in self.ones:
            self.ones[rows, cols] = Matrix(rows, cols, [self.N.scalar(1)] * (rows * cols))
        return self.ones[rows, cols]

    def _below(self, nodes: tuple[Node, ...]) -> Matrix:
        """Their values below one another; kept, since parameters come back at every step."""
        if nodes not in self.stacked:
            self.stacked[nodes] = stack([node.value for node in nodes])
        return self.stacked[nodes]

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
