"""What a study is: a question, a method with fixed seeds, and what a run of it found, as plain data.

A run returns sentences, tables, pictures and checks. Everything that is drawn or printed is rendered from these, so
that every number on a page comes from the run. A check is a statement that is a theorem, and that the run could have
refuted: a gradient within its budget, a bound above what was measured. What a study merely observed is no check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from conformance.studies.intervals import Interval

SCHEMA_VERSION = 1
Numbers = Sequence[float] | NDArray[Any]


@dataclass(frozen=True)
class Series:
    """One curve: x, y and, where repetitions vary, the band low to high; `style` numbers its dashes and colour."""

    name: str
    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    style: int = 0
    marks: bool = True


@dataclass(frozen=True)
class Panel:
    """One pair of axes, with units in their labels; `ylim` cuts off what is beyond."""

    title: str
    xlabel: str
    ylabel: str
    series: Sequence[Series]
    xlog: bool = False
    ylog: bool = False
    ylim: tuple[float, float] | None = None


@dataclass(frozen=True)
class Picture:
    """Panels beside one another, as the file `name`.svg; the caption says what is to be seen."""

    name: str
    caption: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Table:
    """Rows of text, numbers and intervals below a head."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | float | Interval]]


@dataclass(frozen=True)
class Check:
    """A theorem that the run put to the test, and what it came to."""

    statement: str
    holds: bool
    detail: str


@dataclass
class Found:
    """What a run found."""

    answer: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)


class Run:
    """What a study is given: whether to be quick, and where to say how far it is."""

    def __init__(self, *, quick: bool, begin: Callable[[int], None], advance: Callable[[], None]) -> None:
        self.quick = quick
        self.begin = begin
        self.advance = advance

    def pick(self, full: Any, quick: Any) -> Any:
        """One of two values, by the form of the run."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Study:
    """One study. `claims` are those of the sources that it bears on, by id; `symbols` says what the letters stand for.

    `measures` says that it reads the machine, so that two runs with the same seeds may differ.
    """

    id: str
    title: str
    question: str
    method: str
    claims: Sequence[str]
    run: Callable[[Run], Found]
    measures: bool = False
    symbols: str = ""
