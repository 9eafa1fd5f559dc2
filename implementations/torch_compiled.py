"""The target `torch-compile`: the loop of `torch`, with each cell's step compiled by torch.compile and TorchInductor.

The compiler writes C++ for the step and for its derivative, once for all sizes but 1, which it treats apart; that takes
some seconds each time. What would fall back to plain PyTorch is an error here (`fullgraph`, and no limit on how often
it compiles), so that what is judged is what was compiled.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import _dynamo
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from implementations import torch_autograd
from implementations.torch_autograd import Step

SUPPORTS: dict[str, Any] = torch_autograd.SUPPORTS
OFTEN = 1024
"""How many sizes and dtypes a step may be compiled for; past its own limit torch.compile would go on without."""

if not hasattr(_dynamo.config, "recompile_limit"):
    message = f"torch.compile of PyTorch {torch.__version__} has no recompile_limit; it takes a later one"
    raise ImportError(message)
try:
    get_cpp_compiler()
except (InvalidCxxCompiler, RuntimeError) as error:
    message = "torch.compile finds no C++ compiler"
    raise ImportError(message) from error


def gradients(problem: Any) -> dict[str, Any]:
    """Compute the loss, the states and every gradient of a problem, in its dtype.

    Shapes: loss scalar, h and c (T,B,H), o (T,B,K), dx (T,B,D), dh0 and dc0 (B,H), d + name as the parameter.
    Raises: NotImplementedError for what SUPPORTS does not list.
    """
    torch_autograd.step_of(problem.cell, problem.activation, problem.truncation.kind)  # raises for what is not offered
    step = _compiled(problem.cell, problem.activation, problem.truncation.kind == "cec")
    with _dynamo.config.patch(recompile_limit=OFTEN, accumulated_recompile_limit=OFTEN):
        return torch_autograd.unrolled_gradients(problem, step)


@lru_cache
def _compiled(cell: str, activation: str | None, cec: bool) -> Step:
    step: Step = torch.compile(
        torch_autograd.step_of(cell, activation, "cec" if cec else "full"), dynamic=True, fullgraph=True
    )
    return step
