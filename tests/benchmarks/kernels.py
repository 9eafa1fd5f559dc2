"""Times the C kernel beside NumPy, PyTorch and JAX, and the matrix products alone: prints a table.

    python tests/benchmarks/kernels.py [TABLE.md [PLOT.svg]]

RNN, LSTM and GRU, forward and backward, one thread. Subjects take turns, round after round, so that a busy minute falls
on all of them; a time is the median of its rounds, in seconds of this process, a ratio the median of the rounds' own
with their quartiles. `products` are the matrix products of the same shapes through NumPy's BLAS and nothing else: the
ceiling of whoever calls that BLAS. `torch-compile` is torch.nn's module within torch.compile, and `jax` the network by
lax.scan, jitted at these very sizes; both are left out where they cannot be had. With a file the table goes there as
well, with a second one a drawing of it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bptt.problem import Loss, Problem
from implementations import registry

SIZES = [(20, 1, 4, 8), (100, 1, 16, 32), (100, 16, 64, 128), (100, 32, 128, 256), (50, 64, 256, 512)]
CELLS = {"elman": 1, "lstm": 4, "gru_reset_after": 3}
"""A cell and the columns of its weights, in units of H."""
NAMES = {"elman": "RNN", "lstm": "LSTM", "gru_reset_after": "GRU"}
TARGETS = ("c", "numpy", "torch-nn")
SUBJECTS = (*TARGETS, "torch-compile", "jax", "products")
SECONDS = 0.7
"""For the rounds of one row; 5 rounds at least."""


def make_problem(cell: str, sizes: tuple[int, int, int, int], dtype: str) -> Problem:
    """Draw a problem with a cotangent on each h."""
    rng = np.random.default_rng(2012)
    T, B, D, H = sizes
    G = CELLS[cell] * H

    def draw(*shape: int, scale: float = 1.0) -> Any:
        return (scale * rng.standard_normal(shape)).astype(dtype)

    inner, outer = draw(D, G, scale=D**-0.5), draw(H, G, scale=0.5 * H**-0.5)
    if cell == "elman":
        params = {"W_xh": inner, "W_hh": outer, "b_h": draw(G)}
    else:
        params = {
            "W_x": inner,
            "W_h": outer,
            **{name: draw(G) for name in (("b",) if cell == "lstm" else ("b_x", "b_h"))},
        }
    return Problem(
        cell=cell,
        activation="tanh" if cell == "elman" else None,
        readout="none",
        params=params,
        x=draw(T, B, D),
        h0=draw(B, H),
        c0=draw(B, H) if cell == "lstm" else None,
        loss=Loss("cotangent", g=draw(T, B, H)),
        dtype=dtype,
    )


def make_products(cell: str, sizes: tuple[int, int, int, int], dtype: str) -> Callable[[], None]:
    """The products of a forward and a backward pass: those over all steps at once, and T small ones each way."""
    T, B, D, H = sizes
    G = CELLS[cell] * H
    rng = np.random.default_rng(0)
    x, h, delta, W_x, W_h = (
        rng.standard_normal(shape).astype(dtype) for shape in ((T * B, D), (T * B, H), (T * B, G), (D, G), (H, G))
    )
    a, dh, dx, dW_x, dW_h = (
        np.empty_like(delta),
        np.empty_like(h),
        np.empty_like(x),
        np.empty_like(W_x),
        np.empty_like(W_h),
    )

    def run() -> None:
        np.matmul(x, W_x, out=a)
        for t in range(T):
            np.matmul(h[t * B : t * B + B], W_h, out=a[t * B : t * B + B])
        for t in range(T):
            np.matmul(delta[t * B : t * B + B], W_h.T, out=dh[t * B : t * B + B])
        np.matmul(delta, W_x.T, out=dx)
        np.matmul(x.T, delta, out=dW_x)
        np.matmul(h.T, delta, out=dW_h)

    return run


def subjects(cell: str, sizes: tuple[int, int, int, int], dtype: str) -> dict[str, Callable[[], Any]]:
    """What is measured, by name; a target that is not installed is left out."""
    problem = make_problem(cell, sizes, dtype)
    found: dict[str, Callable[[], Any]] = {}
    for name in TARGETS:
        try:
            target = registry.load(name)
        except registry.Unavailable:
            continue
        found[name] = lambda solve=target.gradients: solve(problem)
    for name, make in {"torch-compile": compiled_module, "jax": jitted_scan}.items():
        try:
            found[name] = make(problem)
        except ImportError:
            continue
    return found | {"products": make_products(cell, sizes, dtype)}


def compiled_module(problem: Problem) -> Callable[[], Any]:
    """torch.nn's module, called and differentiated within torch.compile; what it needs is converted beforehand."""
    import torch

    from implementations import torch_compiled, torch_nn

    del torch_compiled  # imported for its check that there is a compiler
    torch.compiler.reset()  # what was compiled for other rows counts towards a limit, past which nothing is compiled
    dtype = torch_nn.dtype_of(problem, [problem.dtype])
    module = torch_nn._module(problem, dtype)
    x, g = (torch_nn.tensor(array, dtype) for array in (problem.x, problem.loss.g))
    given = [problem.h0, problem.c0] if problem.cell == "lstm" else [problem.h0]
    state = tuple(torch_nn.tensor(s0, dtype).requires_grad_() for s0 in given)
    leaves = [*module.parameters(), x.requires_grad_(), *state]

    @torch.compile
    def loss(x: Any, g: Any, state: Any) -> Any:
        return (torch_nn._run(module, x, state, None)[0] * g).sum()

    return lambda: torch.autograd.grad(loss(x, g, state), leaves)


def jitted_scan(problem: Problem) -> Callable[[], Any]:
    """The network by lax.scan, with its derivative, jitted; what it needs is converted beforehand."""
    import jax

    from implementations.jax_scan import Kind, step_of

    step = step_of(Kind(problem.cell, problem.activation, False, "none", "cotangent", False, 1.0, problem.T))
    given = [problem.h0, problem.c0] if problem.cell == "lstm" else [problem.h0]

    def loss(params: Any, x: Any, state: Any, g: Any) -> Any:
        def body(state: Any, x: Any) -> tuple[Any, Any]:
            state = step(params, x, state)
            return state, state[0]

        return (jax.lax.scan(body, state, x)[1] * g).sum()

    with jax.enable_x64(problem.dtype == "float64"):
        solve = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
        arrays = jax.tree.map(jax.numpy.asarray, (problem.params, problem.x, tuple(given), problem.loss.g))

    def run() -> Any:
        with jax.enable_x64(problem.dtype == "float64"):
            return jax.block_until_ready(solve(*arrays))

    return run


def measure(calls: dict[str, Callable[[], Any]]) -> dict[str, NDArray[np.float64]]:
    """Seconds of each, round by round; the first call is left out."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times["products"]) < 5:
        for name, call in calls.items():
            start = time.process_time()
            answer = call()
            times[name].append(time.process_time() - start)
            del answer
    return {name: np.array(values) for name, values in times.items()}


def ratio(times: dict[str, NDArray[np.float64]], name: str) -> tuple[float, float, float]:
    """How many times as long as c it takes: the median over the rounds, and the quartiles."""
    middle, low, high = np.quantile(times[name] / times["c"], [0.5, 0.25, 0.75]).tolist()
    return middle, low, high


Row = tuple[str, str, tuple[int, int, int, int], dict[str, NDArray[np.float64]]]


def lines(rows: list[Row]) -> list[str]:
    """A table in Markdown: milliseconds of c, and others ÷ c."""
    heads = ["cell", "dtype", "T,B,D,H", "c, ms", *(f"{name} ÷ c" for name in SUBJECTS[1:])]
    table = [f"| {' | '.join(heads)} |", "|---|---|---|" + "---:|" * (len(heads) - 3)]
    for cell, dtype, sizes, times in rows:
        cells = [NAMES[cell], dtype, ",".join(str(n) for n in sizes), f"{1e3 * np.median(times['c']):.3g}"]
        for name in SUBJECTS[1:]:
            middle, low, high = ratio(times, name) if name in times else (0.0, 0.0, 0.0)
            cells.append(f"{middle:.3g} [{low:.3g}, {high:.3g}]" if name in times else "–")
        table.append(f"| {' | '.join(cells)} |")
    return table


def plot(rows: list[Row]) -> str:
    """How many times as long as c the others take, on a logarithmic scale from 0.5 to 200, as SVG."""
    colours = {
        "numpy": "#b0a030", "torch-nn": "#c04020", "torch-compile": "#e090d0", "jax": "#3070c0", "products": "#808080",
    }  # fmt: skip
    left, top, width, step = 150, 40, 480, 14

    def at(value: float) -> float:
        return round(left + width * float(np.log(min(max(value, 0.5), 200) / 0.5) / np.log(400)), 1)

    height = step * len(rows) + 10
    box = f"660 {top + height + 44}"
    marks = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {box}" font-family="sans-serif" font-size="11">',
        f'<rect width="660" height="{top + height + 44}" fill="white"/>',
        f'<text x="{left}" y="14">time ÷ time of c, one thread; right of 1 is slower than c</text>',
    ]
    for n, (name, colour) in enumerate(colours.items()):
        marks.append(f'<circle cx="{left - 100 + 120 * n}" cy="26" r="4" fill="{colour}"/>')
        marks.append(f'<text x="{left - 92 + 120 * n}" y="30">{name}</text>')
    for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200):
        x, shade = at(tick), "black" if tick == 1 else "#dddddd"
        marks.append(f'<line x1="{x}" y1="{top}" x2="{x}" y2="{top + height}" stroke="{shade}"/>')
        marks.append(f'<text x="{x}" y="{top + height + 16}" text-anchor="middle">{tick:g}</text>')
    for n, (cell, dtype, sizes, times) in enumerate(rows):
        y = top + 12 + step * n
        words = f"{NAMES[cell]} {dtype} {','.join(str(size) for size in sizes)}"
        marks.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end" font-size="9">{words}</text>')
        for name, colour in colours.items():
            if name in times:
                marks.append(f'<circle cx="{at(ratio(times, name)[0])}" cy="{y}" r="4" fill="{colour}"/>')
    return "\n".join([*marks, "</svg>"]) + "\n"


def main() -> None:
    """Measure, print, draw."""
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1" or os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("set OPENBLAS_NUM_THREADS=1 and OMP_NUM_THREADS=1: one thread for all")
    rows: list[Row] = []
    for cell in CELLS:
        for dtype in ("float64", "float32"):
            for sizes in SIZES:
                rows.append((cell, dtype, sizes, measure(subjects(cell, sizes, dtype))))
                sys.stdout.write(lines(rows[-1:])[-1] + "\n")
                sys.stdout.flush()
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text("\n".join(lines(rows)) + "\n", encoding="utf-8")
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(plot(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
