"""S3: what has to be kept for the backward pass of U, V, W, and what implementations keep.

    minimum             h_1 .. h_T, one array (T,B,H): x and the weights are given, o is not needed once its error has
                        been sent into h_t                                                                          (1)
    checkpointing       the state every s = ceil(sqrt(T)) steps, and one segment of s steps at a time               (2)

(2) runs the target `numpy` on pieces: forwards, keeping the state between pieces, then backwards, each piece with the
cotangent that the next one sent into its last state. Source: Griewank and Walther (2000) and Chen et al. (2016) for
recomputing from checkpoints; (1) is ours, from the derivative formulas: delta_t needs h_t, dW_hh needs h_{t-1}.

Memory is measured: in `numpy` and `c` by tracemalloc, in which NumPy enters its arrays, at the moment when the loss is
evaluated, between the passes; in `torch` by what autograd saves (torch.autograd.graph.saved_tensors_hooks).
"""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from bptt.problem import Loss, Problem
from conformance.studies.base import Check, Found, Panel, Picture, Run, Series, Study, Table
from conformance.studies.networks import Named, draw, excess, pose
from implementations import numpy_bptt
from implementations.registry import Unavailable, load
from oracle.budget import Model
from oracle.truth import find_truth

B, D, H = 4, 8, 32


def problem_of(cell: str, T: int, seed: int) -> Problem:
    """A problem with a cotangent on each h."""
    rng = np.random.default_rng(seed)
    params = draw(rng, cell, D, H, gain=0.9)
    return pose(cell, params, rng.standard_normal((T, B, D)), Loss("cotangent", g=rng.standard_normal((T, B, H))))


def held(module: Any, problem: Problem) -> int:
    """Bytes that a target holds when it evaluates the loss, beyond what it was given."""
    found: list[int] = []
    evaluate = module.evaluate

    def probe(*arguments: Any) -> Any:
        found.append(tracemalloc.get_traced_memory()[0])
        return evaluate(*arguments)

    module.gradients(problem)  # imports and caches are not counted
    tracemalloc.start()
    try:
        with mock.patch.object(module, "evaluate", probe):
            module.gradients(problem)
    finally:
        tracemalloc.stop()
    return found[0]


def held_by_torch(problem: Problem) -> int:
    """Bytes of the distinct storages that autograd saves for the backward pass, the leaves' own left out.

    Raises: Unavailable.
    """
    module = load("torch")
    import torch

    storages: dict[int, Any] = {}

    def pack(tensor: Any) -> Any:
        if not tensor.is_leaf:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage  # kept alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module.gradients(problem)
    return sum(int(storage.nbytes()) for storage in storages.values())


def checkpointed(problem: Problem) -> Named:
    """(2): the gradients of the parameters and the initial states, from the target `numpy` on pieces."""
    every = math.ceil(math.sqrt(problem.T))
    pieces = [slice(first, min(first + every, problem.T)) for first in range(0, problem.T, every)]
    states: list[Named] = [{f"{name}0": getattr(problem, f"{name}0") for name in problem.spec.states}]

    def piece(part: slice, start: dict[str, Any], **final: Any) -> Problem:
        assert problem.loss.g is not None
        return replace(problem, x=problem.x[part], **start, loss=Loss("cotangent", g=problem.loss.g[part], **final))

    for part in pieces[:-1]:
        answer = numpy_bptt.gradients(piece(part, states[-1]))
        states.append({f"{name}0": answer[name][-1].copy() for name in problem.spec.states})
        del answer
    total: Named = {f"d{name}": np.zeros_like(array) for name, array in problem.params.items()}
    final: Named = {}
    for part, start in zip(reversed(pieces), reversed(states), strict=True):
        answer = numpy_bptt.gradients(piece(part, start, **final))
        for name in problem.params:
            total[f"d{name}"] += answer[f"d{name}"]
        final = {f"g_{name}_final": answer[f"d{name}0"].copy() for name in problem.spec.states}
        del answer
    return total | {f"d{name}0": final[f"g_{name}_final"] for name in problem.spec.states}


def judged(problems: list[Problem]) -> float:
    """The worst error ÷ budget of (2): it is the same gradient, summed in another order."""
    worst = 0.0
    for problem in problems:
        truth = find_truth(problem, Model("float64"))
        worst = max(worst, *(excess(truth, key, got) for key, got in checkpointed(problem).items()))
    return worst


def peak(call: Callable[[], Any]) -> int:
    """The most bytes that a call holds at any moment, its result included."""
    call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def run(run: Run) -> Found:
    """Measure over T for the Elman network, and at one T for every other cell."""
    Ts, cells = (
        run.pick((16, 64, 256, 1024), (16, 64)),
        run.pick(("elman", "lstm", "gru_reset_after"), ("elman", "lstm")),
    )
    seeds = list(range(run.pick(5, 2)))
    run.begin(len(Ts) + len(cells) + 1)
    names = ["minimum", "numpy", "c", "torch", "checkpointing, peak", "numpy, peak"]
    curves: dict[str, list[float]] = {name: [] for name in names}
    missing: set[str] = set()
    for T in Ts:
        for name, value in measured(problem_of("elman", T, 0), missing).items():
            curves[name].append(value / 1024)
        run.advance()
    table = []
    for cell in cells:
        values = measured(problem_of(cell, Ts[-1], 0), missing)
        unit = values["minimum"]
        table.append((cell, round(unit), *(values[n] / unit if n in values else "not installed" for n in names[1:])))
        run.advance()
    worst = judged([problem_of(cells[seed % len(cells)], 10, seed) for seed in seeds])
    run.advance()
    growth = {name: slope(Ts, values) for name, values in curves.items() if values}
    less = curves["checkpointing, peak"][-1] / curves["numpy, peak"][-1]
    return Found(
        answer=[
            f"At T = {Ts[-1]} the Elman network's minimum is {curves['minimum'][-1]:.0f} KiB, one (T,B,H) array; "
            + ", ".join(
                f"`{n}` holds {curves[n][-1] / curves['minimum'][-1]:.2f}" for n in ("numpy", "c", "torch") if curves[n]
            )
            + " times as much between the passes, outputs that the caller gets included.",
            (
                f"Checkpoints every sqrt(T) steps need {less:.2f} of the peak of the whole run, and grow as T^"
                f"{growth['checkpointing, peak']:.2f} where that grows as T^{growth['numpy, peak']:.2f}; the "
                "weights are stored "
                "once, whatever T is."
            ),
        ],
        parameters={"T": Ts, "B": B, "D": D, "H": H, "bytes a number": 8},
        seeds=seeds,
        tables=[
            Table(
                f"Held between the passes at T = {Ts[-1]}, in units of the minimum",
                ("cell", "minimum, bytes", *(f"{n}" for n in names[1:])),
                table,
            )
        ],
        pictures=[
            Picture(
                "s3",
                f"What is held for the backward pass of an Elman network (B = {B}, H = {H}, float64) as T "
                "grows: measured, beside the minimum and checkpoints at sqrt(T).",
                [
                    Panel(
                        "memory for the backward pass",
                        "T, steps",
                        "KiB",
                        [
                            Series(name, Ts, values, style=style)
                            for style, (name, values) in enumerate(curves.items())
                            if values
                        ],
                        xlog=True,
                        ylog=True,
                    )
                ],
            )
        ],
        checks=[
            Check(
                "checkpointing gives the same gradient, within the budget of rounding",
                worst <= 1.0,
                f"worst error ÷ budget {worst:.2g}",
            ),
            Check("checkpointing holds less than the whole run", less < 1.0, f"{less:.2f} of its peak at T = {Ts[-1]}"),
            Check(
                "no target holds less than the minimum",
                all(
                    v >= m
                    for n in ("numpy", "c", "torch")
                    if curves[n]
                    for v, m in zip(curves[n], curves["minimum"], strict=True)
                ),
                f"T = {', '.join(map(str, Ts))}",
            ),
        ],
    )


def measured(problem: Problem, missing: set[str]) -> dict[str, float]:
    """Bytes by the names of the table; a target that is not here is left out."""
    T = problem.T
    out: dict[str, float] = {"minimum": 8.0 * T * B * H * len(problem.spec.states)}
    for name in ("numpy", "c"):
        try:
            out[name] = held(load(name), problem)
        except Unavailable:
            missing.add(name)
    try:
        out["torch"] = held_by_torch(problem)
    except Unavailable:
        missing.add("torch")
    out["checkpointing, peak"] = peak(lambda: checkpointed(problem))
    out["numpy, peak"] = peak(lambda: numpy_bptt.gradients(problem))
    return out


def slope(Ts: Any, values: list[float]) -> float:
    """The exponent of T between the last two points."""
    return float(np.log(values[-1] / values[-2]) / np.log(Ts[-1] / Ts[-2]))


STUDY = Study(
    "S3",
    "what must be stored for the backward pass",
    "What has to be kept from the forward pass of U, V and W, how much do implementations keep, and what do "
    "checkpoints "
    "at every sqrt(T) steps save?",
    "The memory that `numpy`, `c` and `torch` hold between the passes is measured and set against the minimum that the "
    "formulas need. Checkpointing is built from `numpy` on pieces, and its gradient judged by the oracle.",
    ("C09", "C10"),
    run,
    measures=True,
    symbols="T steps, B rows, H units; U, V and W are the weights into the units, out of them, and among them. "
    "T^p says how the memory grows: p is the slope where both axes are logarithmic.",
)
