"""Messages in one grammar: where, got, want, how far, against what budget, how to run it again."""

from __future__ import annotations

import math
import shlex

from bptt.problem import SIGNIFICAND, Problem
from conformance.engine import Finding, Outcome
from conformance.render.terminal import visible
from properties.base import Comparison

_LOWEST = {"float64": -1074, "float32": -149, "float16": -24, "bfloat16": -133}


def ulp(value: float, dtype: str) -> float:
    """One unit in the last place of a dtype at a value.

    >>> ulp(1.0, "float64") == 2.0**-52, ulp(0.0, "float32") == 2.0**-149
    (True, True)
    """
    if value == 0 or not math.isfinite(value):
        return math.ldexp(1.0, _LOWEST[dtype])
    exponent = math.frexp(value)[1] - SIGNIFICAND[dtype]
    return math.ldexp(1.0, max(exponent, _LOWEST[dtype]))


def number(value: float) -> str:
    """A number for people: hexadecimal, since that is exact, with its decimal beside it."""
    if not math.isfinite(value):
        return str(value)
    return f"{value.hex()} ({value:.6g})" if value != int(value) or abs(value) >= 1e6 else f"{value:g}"


def units(value: float, want: float, dtype: str) -> str:
    """A distance in ulp of the wanted value."""
    try:
        return f"{value / ulp(want, dtype):.3g} ulp"
    except OverflowError:
        return "inf ulp"


def place(key: str, where: tuple[int, ...]) -> str:
    """dW_hh[3,0]."""
    return f"{key}[{','.join(map(str, where))}]" if where else key


def comparison_line(c: Comparison, dtype: str) -> str:
    """dW_hh[3,0]: got ..., want ...; off by ... ulp, budget ... ulp."""
    what = place(c.key, c.where)
    terms = [term for term in c.terms if term.coefficient]
    if len({term.key for term in terms}) > 1:
        less = f"differences of the loss less {what} along a direction"
        return f"{less}: got {number(c.got)}, want {number(c.want)}; off by {c.error:.3g}, budgets {c.allowed:.3g}"
    if len(terms) > 1 and not c.note and not c.key.startswith("delta"):
        less = "another run" if len(terms) == 2 else f"the sum of {len(terms) - 1} other runs"
        sizes = f"off by {c.error:.3g}, budgets {c.allowed:.3g}"
        return f"{what} less that of {less}: got {number(c.got)}, want {number(c.want)}; {sizes}"
    if c.note:  # a norm against a bound
        return f"{what}: got a norm of {number(c.got)}, want at most {number(c.allowed)} ({c.note} plus budget)"
    off, budget = units(c.error, c.want, dtype), units(c.allowed, c.want, dtype)
    return f"{what}: got {number(c.got)}, want {number(c.want)}; off by {off}, budget {budget}"


def problem_line(target: str, problem: Problem, property_id: str) -> str:
    """c-blas · elman tanh · T=7 B=2 D=3 H=4 K=4 · float64 · oracle-agreement."""
    cell = problem.cell + (f" {problem.activation}" if problem.activation else "")
    sizes = f"T={problem.T} B={problem.B} D={problem.D} H={problem.H} K={problem.K}"
    names = f"{problem.readout} readout, {problem.loss.kind}, {problem.truncation}"
    return f"{visible(target)} · {cell} · {sizes} · {names} · {problem.dtype} · {property_id}"


def replay_command(case_path: str, target: str) -> str:
    """The command that runs a case again, quoted for a shell."""
    return f"bpttcheck replay {quoted(case_path)} {quoted(target)}"


def quoted(word: str) -> str:
    r"""A word for a shell: in $'...' where it holds what does not print, behind ./ where it would look like an option.

    >>> quoted("a b.py"), quoted("-x.py"), quoted("a\nb.py")
    ("'a b.py'", './-x.py', "$'a\\U0000000ab.py'")
    """
    if word.startswith("-"):
        word = f"./{word}"
    if word.isprintable():
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + "'"


def failure_message(finding: Finding, outcome: Outcome, target: str, replay: str | None) -> str:
    """The whole message of a failure, three lines as a rule."""
    problem = outcome.case.problem
    worst = outcome.worst
    first = outcome.message or (comparison_line(worst, problem.dtype) if worst else "failed")
    lines = [first, "  " + problem_line(target, problem, finding.property.id)]
    if outcome.judgement is not None:
        wrong = sorted({c.key for c in outcome.judgement.comparisons if not c.holds})
        right = sorted({c.key for c in outcome.judgement.comparisons} - set(wrong))
        lines.append(f"  wrong: {', '.join(wrong)}" + (f"; within budget: {', '.join(right)}" if right else ""))
    if outcome.judgement is not None and outcome.companion is not None:
        lines.append("  shows only after another problem was asked: the target keeps something between calls")
    if not outcome.repeats:
        lines.append("  did not show again in a freshly loaded target: it takes more calls before it, or chance")
    printed = [line.strip() for line in outcome.stderr.splitlines() if line.strip()]
    if printed:
        lines.append(f"  the last it printed: {printed[-1][:300]}")
    if replay:
        lines.append(f"  replay: {replay}")
    return "\n".join(lines)
