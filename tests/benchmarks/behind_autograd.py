"""Puts an adapter behind a `torch.autograd.Function`, as its author would to run `torch.autograd.gradcheck` on it.

    forward     the adapter's loss, at the values that it is handed
    backward    dL times the adapter's gradients, dL the incoming cotangent                      (1)

Differentiated are the parameters, x and the initial state, as far as the adapter claims a gradient of them. The adapter
sees the tensors' own memory, as it would in a user's program; everything else of the problem is fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.gradcheck import GradcheckError, gradcheck

from bptt.problem import Problem
from conformance.workers import as_seen
from implementations import torch_autograd

Adapter = Callable[[Any], dict[str, Any]]
Behind = tuple[Callable[..., Tensor], tuple[Tensor, ...]]
"""A function of tensors whose value is the loss, and the tensors at which it is to be differentiated."""


class NoLoss(Exception):
    """The adapter returns no loss, so that there is nothing to differentiate."""


def leaves(problem: Problem) -> dict[str, Any]:
    """The arrays of a problem that have a gradient, by name."""
    initial = {"h0": problem.h0, "c0": problem.c0}
    every = {**problem.params, "x": problem.x, **initial}
    return {name: array for name, array in every.items() if array is not None}


def seen_with(problem: Problem, values: dict[str, Any]) -> Any:
    """The problem as an adapter sees it, with those arrays in place of its own."""
    seen = as_seen(problem)
    seen.params = {name: values.get(name, array) for name, array in seen.params.items()}
    for name in ("x", "h0", "c0"):
        setattr(seen, name, values.get(name, getattr(seen, name)))
    return seen


def ask(adapter: Adapter, seen: Any) -> dict[str, Any]:
    """The adapter's answer; overflows are its own affair."""
    with np.errstate(all="ignore"):
        return adapter(seen)


def tensor(value: Any) -> Tensor:
    """A result as a tensor of its own, in float64."""
    return torch.from_numpy(np.array(value, dtype=np.float64))


def behind_function(adapter: Adapter, problem: Problem) -> Behind:
    """(1). Raises: NoLoss, and what the adapter raises."""
    answer = ask(adapter, seen_with(problem, {}))
    if answer.get("loss") is None:
        raise NoLoss
    names = [name for name in leaves(problem) if answer.get(f"d{name}") is not None]

    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *values: Tensor) -> Tensor:
            arrays = {name: value.detach().numpy() for name, value in zip(names, values, strict=True)}
            found = ask(adapter, seen_with(problem, arrays))
            gradients = [found.get(f"d{name}") for name in names]
            ctx.gradients = [None if gradient is None else tensor(gradient) for gradient in gradients]
            return tensor(found["loss"])

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, dL: Tensor) -> tuple[Tensor | None, ...]:
            return tuple(None if gradient is None else dL * gradient for gradient in ctx.gradients)  # (1)

    return Loss.apply, tensors(problem, names)


def unrolled_loop(problem: Problem) -> Behind:
    """The forward loop of the target `torch`, differentiated by autograd itself; untruncated."""
    step = torch_autograd.step_of(problem.cell, problem.activation, problem.truncation.kind)
    given = leaves(problem)
    T, B, _ = problem.x.shape
    length = torch_autograd.row_lengths(problem.lengths, T, B)

    def loss(*values: Tensor) -> Tensor:
        by_name = dict(zip(given, values, strict=True))
        state = tuple(by_name[f"{name}0"] for name in problem.spec.states)
        states = torch_autograd._unroll(step, by_name, by_name["x"], state, range(1, T + 1), length)
        outputs = torch_autograd.read_out(problem, by_name, torch.stack([one[0] for one in states]))
        return torch_autograd.partial_loss(problem, outputs, 0, states[-1], np.ones(B, dtype=bool))

    return loss, tensors(problem, list(given))


def tensors(problem: Problem, names: list[str]) -> tuple[Tensor, ...]:
    """Fresh tensors, each of which wants a gradient."""
    given = leaves(problem)
    return tuple(tensor(given[name]).requires_grad_() for name in names)


def passes(behind: Behind, *, fast: bool) -> bool:
    """What `gradcheck` says with its defaults, in slow or in fast mode. Raises: what the adapter raises."""
    torch.manual_seed(0)
    try:
        return gradcheck(*behind, fast_mode=fast)
    except GradcheckError:
        return False
