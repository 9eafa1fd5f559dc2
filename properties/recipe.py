"""Drawing a recipe: a run of small integers from Hypothesis, with no structure for it to copy about.

Hypothesis's own composite strategies mark every draw, and its mutator copies marked draws over one another: of forty
examples most would share their seeds and names. A recipe is one strategy whose integers are drawn straight from the
choice sequence, so that all are independent, and each still shrinks towards 0 on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

from hypothesis.internal.conjecture.providers import HypothesisProvider
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")


class Draw:
    """The integers of one recipe. `data` is Hypothesis's choice sequence."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def integer(self, low: int, high: int) -> int:
        """An integer from low to high, both included; shrinks towards low."""
        return int(self._data.draw_integer(low, high, shrink_towards=low)) if high > low else low

    def of(self, choices: Sequence[T]) -> T:
        """One of the choices; shrinks towards the first."""
        return choices[self.integer(0, len(choices) - 1)]

    def flag(self, one_in: int = 2) -> bool:
        """True once in so many; shrinks towards False."""
        return self.integer(0, one_in - 1) == one_in - 1

    def seed(self) -> int:
        """A seed for the entries of an array."""
        return self.integer(0, 2**24 - 1)

    def named(self, shares: Sequence[tuple[str, int]]) -> str:
        """A name by its share; the first is the simplest."""
        ticket = self.integer(0, sum(share for _, share in shares) - 1)
        for name, share in shares:
            if ticket < share:
                return name
            ticket -= share
        raise AssertionError(ticket)


def _no_constant(*_: Any, **__: Any) -> None:
    """No constant."""


@contextmanager
def no_constants() -> Iterator[None]:
    """Within, Hypothesis draws no constants of the source of whatever modules are loaded.

    With them an adapter's own numbers would decide which problems it gets, and a process's history which ones come.
    There is no public switch for it; tests/test_recipe.py notices if this one no longer works.
    """
    with mock.patch.object(HypothesisProvider, "_maybe_draw_constant", _no_constant):
        yield


class Recipe(SearchStrategy[T]):
    """A strategy that builds a value from a `Draw`."""

    def __init__(self, build: Callable[[Draw], T]) -> None:
        super().__init__()
        self.build = build

    def do_draw(self, data: Any) -> T:
        """Called by Hypothesis."""
        return self.build(Draw(data))

    def __repr__(self) -> str:
        return "Recipe()"
