"""What a cell is: its parameters' shapes, its state, and one step, over an abstract arithmetic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from bptt.arithmetic import Arithmetic

Sizes = dict[str, int]
"""T, B, D, H, K by name."""


class Cell(ABC):
    """One recurrent cell. A new cell is a file in this folder with a subclass and `CELL = ItsClass()`.

    name, title    the id, and a few words for people
    equations      the step as it stands in the documentation, one equation a line, numbered from (1)
    states         ("h",) or ("h", "c"); h is first
    activations    the names to choose from, or () where the cell has none to choose
    truncations    the kinds that mean something for this cell
    """

    name: ClassVar[str]
    title: ClassVar[str]
    equations: ClassVar[tuple[str, ...]]
    states: ClassVar[tuple[str, ...]] = ("h",)
    activations: ClassVar[tuple[str, ...]] = ()
    truncations: ClassVar[tuple[str, ...]] = ("full", "window", "chunk", "periodic")

    @abstractmethod
    def shapes(self, D: int, H: int) -> dict[str, tuple[int, ...]]:
        """Each parameter's shape by name, in the documented order."""

    @abstractmethod
    def prepare(self, A: Arithmetic[Any], params: dict[str, Any], H: int) -> dict[str, Any]:
        """What the step uses of the parameters: blocks of columns by their names. Done once, before the first step."""

    @abstractmethod
    def step(
        self, A: Arithmetic[Any], w: dict[str, Any], x_t: Any, state: dict[str, Any], activation: str | None, cec: bool
    ) -> dict[str, Any]:
        """The state after one step: w from `prepare`, x_t (B,D), each state (B,H) -> each new state (B,H)."""

    @abstractmethod
    def local(
        self, N: Any, w: dict[str, Any], x_t: Any, state: dict[str, Any], activation: str | None, cec: bool
    ) -> tuple[Any, Any]:
        """The local Jacobian and the immediate partials of one step of one row, derived by hand.

        N is an `oracle.numbers.Numbers`; w are whole parameters; x_t (1,D), each state (1,H). Returns (J, pull):
        J[i][j] = d new_state_j / d state_i, (S,S) with S = H times the number of states, as a matrix of N, and
        pull(v), which maps a row v = dL/d new_state (1,S) to {parameter: v d+new_state/d parameter}, and x.
        Shares no code with the derivatives that the trace yields: it is the second road.
        """
