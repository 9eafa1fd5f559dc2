"""Measures that the gradient in balls takes time linear in T, prints a table and draws docs/arb_time.svg.

    python -m tests.benchmarks.linear_time

An Elman network, tanh, softmax cross-entropy, 256 bits, B = 4, D = 8, H = 16, K = 8. The lengths T take turns, round
after round, so that a busy minute falls on all of them; a time is the least of its rounds, in seconds of this process.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from oracle.ball_numbers import BallNumbers
from oracle.solution import solve
from tests.benchmarks.conftest import make_elman

LENGTHS = (25, 50, 100, 200, 400)
SIZES = {"B": 4, "D": 8, "H": 16, "K": 8}
ROUNDS = 7
PREC = 256
PLOT = Path(__file__).parents[2] / "docs" / "arb_time.svg"


def measure() -> dict[int, float]:
    """Seconds for the gradient, by T."""
    problems = {T: make_elman({"T": T, **SIZES}, "cross_entropy") for T in LENGTHS}
    least = dict.fromkeys(LENGTHS, float("inf"))
    for _ in range(ROUNDS):
        for T, problem in problems.items():
            start = time.process_time()
            solution = solve(problem, BallNumbers(PREC))
            least[T] = min(least[T], time.process_time() - start)
            del solution  # freed outside the measured time
    return least


def plot(seconds: dict[int, float]) -> str:
    """Milliseconds over T, both axes from 0, with the line through 0 and the last point, as SVG."""
    left, bottom, width, height = 64, 250, 400, 220
    last = max(seconds)
    step = next(n for n in (10, 20, 50, 100, 200, 500, 1000, 2000) if 1e3 * seconds[last] <= 6 * n)
    top = step * -(-1e3 * seconds[last] // step)

    def at(T: float, ms: float) -> tuple[float, float]:
        return round(left + width * T / last, 1), round(bottom - height * ms / top, 1)

    def text(x: float, y: float, words: str, anchor: str = "middle") -> str:
        return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'

    (x0, y0), (x1, y1) = at(0, 0), at(last, 1e3 * seconds[last])
    marks = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 490 300" font-family="sans-serif" font-size="12">',
        '<rect width="490" height="300" fill="white"/>',
        f'<path d="M{left} {bottom - height}V{bottom}H{left + width}" fill="none" stroke="black"/>',
        f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="gray" stroke-dasharray="4 4"/>',
        *(f'<circle cx="{x}" cy="{y}" r="4" fill="#0060a0"/>' for x, y in (at(T, 1e3 * s) for T, s in seconds.items())),
        *(text(at(T, 0)[0], bottom + 18, str(T)) for T in seconds),
        *(text(left - 8, at(0, ms)[1] + 4, str(ms), "end") for ms in range(0, int(top) + 1, step)),
        text(left + width / 2, bottom + 40, "steps T"),
        text(left + 12, bottom - height + 4, "ms for the gradient in balls of 256 bits; B=4, D=8, H=16, K=8", "start"),
        text(left + width, bottom - 16, "dashed: proportional to T", "end"),
        "</svg>",
    ]
    return "\n".join(marks) + "\n"


def main() -> None:
    """Measure, print, draw."""
    seconds = measure()
    sys.stdout.write("     T        ms   ms per step\n")
    for T, s in seconds.items():
        sys.stdout.write(f"{T:6} {1e3 * s:9.2f} {1e3 * s / T:13.4f}\n")
    PLOT.write_text(plot(seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
