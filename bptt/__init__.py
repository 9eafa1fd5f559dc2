"""The vocabulary of BPTT: problems, cells, losses, truncations, gradients, and the file they are kept in."""

from bptt.cells import CELLS
from bptt.errors import FileError, ProblemError, ShapeError
from bptt.files import load_problem, save_problem
from bptt.problem import DTYPES, Loss, Problem
from bptt.truncation import Truncation

__all__ = [
    "CELLS",
    "DTYPES",
    "FileError",
    "Loss",
    "Problem",
    "ProblemError",
    "ShapeError",
    "Truncation",
    "load_problem",
    "save_problem",
]
