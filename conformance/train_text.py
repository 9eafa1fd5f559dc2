"""A character-level training run whose snapshots are properties/data: `python -m conformance.train_text`.

    x_t = onehot(s_t)                                 s: the text's symbols, cut into ROWS streams side by side  (1)
    L = mean over steps and rows of -log softmax(h_t W_hy + b_y)[s_{t+1}]                                        (2)
    theta <- theta - RATE * g * min(1, CLIP / |g|)    g = dL/dtheta + DECAY * theta, |g| over all parameters     (3)

STEPS symbols an update; the state is carried on, its gradient is not (truncated BPTT), and a stream that is used up
begins again at its start. The gradients are those of the target `numpy`, in float64. A snapshot is (1) and (2) for a
passage at the end of the streams SHOWN, which training leaves out, with the state that the symbols before it lead to.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.cells import CELLS
from bptt.files import load_case, save_problem
from bptt.problem import DTYPES, Loss, Problem
from conformance.screen import tell
from implementations.registry import load
from properties.real_text import DATA

Array = NDArray[Any]
Named = dict[str, Array]
ALPHABET = " abcdefghijklmnopqrstuvwxyz"
STEPS, ROWS, SHOWN, LEFT_OUT = 24, 8, slice(4, 6), 60
RATE, CLIP, DECAY = 0.5, 1.0, 3e-3
DISTANCE = 0.5


@dataclass(frozen=True)
class Plan:
    """One run: a network, and its snapshots, as the steps of the passage shown after so many updates.

    The longer a network was trained, the more it amplifies rounding errors: a passage of 24 steps would leave float32
    with budgets too large to say anything about the later Elman networks.
    """

    cell: str
    H: int
    shown: Mapping[int, int]
    activation: str | None = None
    seed: int = 1

    def file(self, updates: int) -> str:
        """The name of a snapshot's file; tanh, the usual activation, goes without saying."""
        activation = "" if self.activation in (None, "tanh") else f"-{self.activation}"
        return f"{self.cell}{activation}-{updates}.safetensors"


PLANS = (
    Plan("elman", 12, {0: 24, 100: 24, 1000: 7, 5000: 6}, "tanh"),
    Plan("elman", 12, {1000: 24}, "relu"),
    *(Plan(cell, 8, {100: 24, 2000: 24}) for cell in CELLS if cell != "elman"),
)


def encode(text: str) -> NDArray[np.int64]:
    """The symbols of a text, as indices into ALPHABET: in lower case; what lies between two words is one space.

    >>> encode("To -- be?").tolist()
    [20, 15, 0, 2, 5]
    """
    known = "".join(letter if letter in ALPHABET else " " for letter in text.lower())
    return np.array([ALPHABET.index(letter) for letter in " ".join(known.split())], dtype=np.int64)


def streams(text: str) -> NDArray[np.int64]:
    """(n, ROWS): column b holds the symbols of the b-th part of the text."""
    symbols = encode(text)
    return symbols[: len(symbols) // ROWS * ROWS].reshape(ROWS, -1).T


def initial(plan: Plan) -> Named:
    """Parameters drawn evenly from within 1 / sqrt(H) of zero."""
    rng = np.random.default_rng(plan.seed)
    K = len(ALPHABET)
    shapes = CELLS[plan.cell].shapes(K, plan.H) | {"W_hy": (plan.H, K), "b_y": (K,)}
    return {name: rng.uniform(-1, 1, shape) / np.sqrt(plan.H) for name, shape in shapes.items()}


def pose(plan: Plan, params: Named, s: Array, state: Named, dtype: str = "float64") -> Problem:
    """(1) and (2) as a problem: of s (T+1,B), x is all but the last symbol and the target all but the first."""
    kind = DTYPES[dtype]
    return Problem(
        cell=plan.cell,
        activation=plan.activation,
        readout="linear",
        params={name: array.astype(kind) for name, array in params.items()},
        x=np.eye(len(ALPHABET), dtype=kind)[s[:-1]],  # (T,B,D)
        h0=state["h"].astype(kind),
        c0=state["c"].astype(kind) if "c" in state else None,
        loss=Loss("cross_entropy", target=s[1:].copy(), time_reduction="mean", batch_reduction="mean"),
        dtype=dtype,
    )


def solve(problem: Problem) -> Named:
    """What the target `numpy` answers."""
    answer: Named = load("numpy").gradients(problem)
    return answer


def blank(plan: Plan, rows: int) -> Named:
    """The state before the first symbol: zeros."""
    return {name: np.zeros((rows, plan.H)) for name in CELLS[plan.cell].states}


def carried(state: Named, answer: Named) -> Named:
    """The state after the last symbol of a window."""
    return {name: answer[name][-1] for name in state}


def train(plan: Plan, text: str) -> Iterator[tuple[Named, float]]:
    """Before each update, without end: the parameters, in fresh arrays, and the loss of the window that it sees."""
    s = streams(text)[:-LEFT_OUT]
    params = initial(plan)
    start, state = 0, blank(plan, ROWS)
    while True:
        answer = solve(pose(plan, params, s[start : start + STEPS + 1], state))
        yield params, float(answer["loss"])
        g = {name: answer[f"d{name}"] + DECAY * array for name, array in params.items()}
        norm = np.sqrt(sum(np.sum(array**2) for array in g.values()))
        params = {name: array - RATE * min(1.0, CLIP / norm) * g[name] for name, array in params.items()}  # (3)
        start, state = start + STEPS, carried(state, answer)
        if start + STEPS >= len(s):
            start, state = 0, blank(plan, ROWS)


def snapshot(plan: Plan, text: str, params: Named, steps: int) -> Problem:
    """The passage's first steps as a float32 problem, with the state that these parameters carry into it."""
    s = streams(text)[:, SHOWN]
    begin = len(s) - LEFT_OUT
    state = blank(plan, s.shape[1])
    before = pose(plan, params, s[begin - STEPS : begin + 1], state)
    return pose(plan, params, s[begin : begin + steps + 1], carried(state, solve(before)), "float32")


def make(folder: Path, text: str, plans: Sequence[Plan] = PLANS) -> None:
    """Run every plan and write its snapshots; say how the loss fell."""
    for plan in plans:
        losses: list[float] = []
        for updates, (params, loss) in enumerate(train(plan, text)):
            losses = [*losses[-99:], loss]
            if updates in plan.shown:
                problem = snapshot(plan, text, params, plan.shown[updates])
                save_problem(problem, folder / plan.file(updates), {"updates": updates, "alphabet": ALPHABET})
                mean, seen = np.mean(losses), float(solve(problem)["loss"])
                tell(f"{plan.file(updates):34} loss {mean:.3f} in training, {seen:.3f} on the passage shown")
            if updates == max(plan.shown):
                break


def differences(shipped: Path, fresh: Path) -> Iterator[str]:
    """Lines about files that are not alike: by name, in their structure, or by more than DISTANCE in a float array.

    Only the structure has to be the same everywhere. The distance, relative to the shipped array's norm, is a sanity
    check and no more: another machine's products round otherwise, and thousands of updates may magnify that (initial
    weights off by 1e-12 end at distances up to 0.04). Networks that have nothing in common are more than 1 apart.
    """
    old, new = ({path.name for path in folder.glob("*.safetensors")} for folder in (shipped, fresh))
    for name in sorted(old ^ new):
        yield f"{name}: {'shipped, but not made by this run' if name in old else 'made by this run, but not shipped'}"
    for name in sorted(old & new):
        (was, was_extra), (now, now_extra) = load_case(shipped / name), load_case(fresh / name)
        if (structure(was), was_extra) != (structure(now), now_extra):
            yield f"{name}: its names, flags, shapes, dtypes or passage are not the shipped ones"
            continue
        after = dict(now.arrays())
        for key, array in was.arrays():
            distance = np.linalg.norm(after[key] - array) / np.linalg.norm(array)
            if not (distance <= DISTANCE):
                yield f"{name}: {key} is off by {distance:.2g} of its norm, expected at most {DISTANCE}"


def structure(problem: Problem) -> tuple[object, ...]:
    """Everything in a snapshot that no rounding changes: names, flags, shapes, dtypes, and the passage itself."""
    loss = problem.loss
    names = (problem.cell, problem.activation, problem.readout, problem.dtype, problem.truncation)
    reductions = (loss.kind, loss.time_reduction, loss.batch_reduction)
    passage = (problem.x.tobytes(), None if loss.target is None else loss.target.tobytes())
    arrays = tuple((name, array.shape, array.dtype.str) for name, array in problem.arrays())
    return (*names, *reductions, *passage, *arrays)


def main(words: Sequence[str] | None = None) -> int:
    """Make the files; or, with --check, compare fresh ones with those there: status 1 if they are not alike."""
    parser = argparse.ArgumentParser(
        prog="python -m conformance.train_text",
        description="Train small networks on a text; write snapshots as problems.",
    )
    parser.add_argument("--out", type=Path, default=DATA, metavar="DIR", help="the folder of the files (%(default)s)")
    parser.add_argument("--check", action="store_true", help="write nothing; compare fresh files with those in DIR")
    arguments = parser.parse_args(words)
    text = (DATA / "text.txt").read_text(encoding="ascii")
    if not arguments.check:
        arguments.out.mkdir(parents=True, exist_ok=True)
        make(arguments.out, text)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), text)
        found = list(differences(arguments.out, Path(folder)))
    tell("\n".join(found) or f"the files in {arguments.out} are alike")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
