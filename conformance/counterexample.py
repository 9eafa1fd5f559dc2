"""A failure as files: the case, and a script that shows it with nothing of ours but the numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from bptt.files import to_bytes
from bptt.problem import Problem
from conformance.engine import Finding, Outcome
from conformance.targets import Target
from conformance.whole import write_whole
from oracle.budget import Model
from properties.base import FAULTS, LAYOUTS, Case, Comparison


def extra_of(finding: Finding, outcome: Outcome, model: Model, after: str | None) -> dict[str, Any]:
    """What travels with the problem so that it can be replayed: property, parameters, declared arithmetic."""
    return {
        "property": finding.property.id,
        "parameters": outcome.case.parameters,
        "model": {"accumulate": model.accumulate, "ulp": model.ulp, "flush": model.flush},
        **({"after": after} if after else {}),
    }


def write_case(folder: Path, finding: Finding, outcome: Outcome, model: Model) -> Path:
    """Write a case file named after its contents; returns its path. A companion problem goes into a file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    after = None if outcome.companion is None else _write(folder, to_bytes(outcome.companion)).name
    return _write(folder, to_bytes(outcome.case.problem, extra_of(finding, outcome, model, after)))


def _write(folder: Path, data: bytes) -> Path:
    path = folder / f"{hashlib.sha256(data).hexdigest()[:12]}.safetensors"
    write_whole({path: data})
    return path


def write_script(path: Path, target: Target, finding: Finding, outcome: Outcome) -> None:
    """Write the standalone script beside the case."""
    write_whole({path: script(target, finding, outcome).encode("utf-8")})


def _literal(array: np.ndarray[Any, Any]) -> str:
    """An array as source text, exactly: float64's repr round-trips, and so does that of every narrower float."""
    kind = "int64" if array.dtype.kind == "i" else array.dtype.name
    values = array.astype(np.float64).tolist() if array.dtype.kind == "f" else array.tolist()
    return f"np.array({values!r}, dtype={kind!r}).reshape({array.shape!r})"


def problem_source(problem: Problem) -> str:
    """A problem as a SimpleNamespace in source text."""

    def maybe(array: np.ndarray[Any, Any] | None) -> str:
        return "None" if array is None else _literal(array)

    loss, t = problem.loss, problem.truncation
    params = "\n".join(f"            {name!r}: {_literal(array)}," for name, array in problem.params.items())
    return f"""NS(
        cell={problem.cell!r}, activation={problem.activation!r}, readout={problem.readout!r}, dtype={problem.dtype!r},
        params={{
{params}
        }},
        x={_literal(problem.x)},
        h0={maybe(problem.h0)},
        c0={maybe(problem.c0)},
        lengths={maybe(problem.lengths)},
        loss=NS(
            kind={loss.kind!r}, scale={loss.scale!r},
            time_reduction={loss.time_reduction!r}, batch_reduction={loss.batch_reduction!r},
            g={maybe(loss.g)},
            g_h_final={maybe(loss.g_h_final)},
            g_c_final={maybe(loss.g_c_final)},
            target={maybe(loss.target)},
        ),
        truncation=NS(kind={t.kind!r}, k={t.k!r}, k1={t.k1!r}, k2={t.k2!r}),
    )"""


_HEAD = '''"""Shows one failure of {target} without bpttcheck: it needs NumPy and the adapter alone.

{message}

Run it:  python {name} [path/to/adapter.py]     exit status 1: the failure is there; 0: it is gone
"""

import importlib
import importlib.util
import os
import sys
from types import SimpleNamespace as NS

import numpy as np

PROBLEMS = [
{problems}
]
SHAPES = {shapes}
# Each term is (coefficient, problem, key, entry); their sum should be within ALLOWED of WANT (float.fromhex).
TERMS = {terms}
WANT = {want}
ALLOWED = {allowed}
ALIKE = {alike}  # whether the problems are of one configuration, so that support and keys must be the same
LAYOUT = {layout}  # how the inputs lie in memory
FAULTS = {faults}  # what is asked before each problem, whatever becomes of it
HELD = {held}  # whether results must share no memory and outlive later calls
KEPT = {{}}  # the inputs of the problem before, where they are updated in place


def adapter(place):
    """The function under test: from a file, or from a module."""
    if not place:
        print("the target is a command, and this script asks functions: give it an adapter, or use bpttcheck replay")
        sys.exit(2)
    file, _, function = place.partition(":") if not os.path.exists(place) else (place, "", "")
    if file.endswith(".py"):
        sys.path.append(os.path.dirname(os.path.abspath(file)))
        spec = importlib.util.spec_from_file_location("adapter", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(file)
    return getattr(module, function or "gradients")


def broken(problem, before, answer, shapes):
    """What is wrong with the form of an answer, or None."""
    for name, array in arrays(problem):
        if array.tobytes() != before[name]:
            return name + ": the input was changed"
    if not isinstance(answer, dict):
        return "the answer is no dict"
    for key, value in answer.items():
        if key in shapes and value is not None:
            if isinstance(value, np.ma.MaskedArray) or np.asarray(value).dtype.kind != "f":
                return key + ": not a plain real floating array"
            if np.asarray(value).dtype.itemsize < np.asarray(problem.x).dtype.itemsize:
                return key + ": a narrower dtype than the problem's"
            if np.asarray(value).shape != tuple(shapes[key]):
                return f"{{key}}: shape {{np.asarray(value).shape}}, want {{tuple(shapes[key])}}"
    return None


def arrays(problem):
    """Every input array by name."""
    for name, array in problem.params.items():
        yield name, array
    inputs, losses = ("x", "h0", "c0", "lengths"), ("g", "g_h_final", "g_c_final", "target")
    for holder, names in ((problem, inputs), (problem.loss, losses)):
        for name in names:
            if getattr(holder, name) is not None:
                yield name, getattr(holder, name)


def laid_out(array):
    """A fresh copy of an array in LAYOUT; NaN lies between the entries of a strided or sliced one."""
    if LAYOUT == "Fortran-ordered":
        return np.array(array, order="F")
    if LAYOUT in ("strided", "sliced"):
        filler, last = np.nan if array.dtype.kind == "f" else 0, array.shape[-1]
        whole = np.full((*array.shape[:-1], 2 * last if LAYOUT == "strided" else last + 3), filler, array.dtype)
        part = whole[..., ::2] if LAYOUT == "strided" else whole[..., :last]
        part[...] = array
        return part
    if LAYOUT == "reversed":
        return np.array(array[::-1], order="C")[::-1]
    if LAYOUT == "batch-first" and array.ndim == 3:
        return np.array(array.swapaxes(0, 1), order="C").swapaxes(0, 1)
    if LAYOUT == "broadcast":  # a stride of 0 where all entries along it are equal
        bits = np.ascontiguousarray(array).view("u" + str(array.dtype.itemsize))
        equal = [array.size > 0 and bool((bits == bits.take([0], axis)).all()) for axis in range(array.ndim)]
        return np.broadcast_to(array[tuple(slice(0, 1) if one else slice(None) for one in equal)].copy(), array.shape)
    fresh = np.array(array)
    fresh.flags.writeable = LAYOUT != "read-only"
    return fresh


def given(problem):
    """The problem with arrays of its own; or in those of the problem before, or with equal ones in one place."""
    equal = {{}}

    def lies(name, array):
        if LAYOUT == "updated in place":
            if name in KEPT and (KEPT[name].shape, KEPT[name].dtype) == (array.shape, array.dtype):
                KEPT[name][...] = array
            else:
                KEPT[name] = np.array(array)
            return KEPT[name]
        if LAYOUT == "broadcast":
            return equal.setdefault((array.dtype, array.shape, array.tobytes()), laid_out(array))
        return laid_out(array)

    def copied(values):
        return {{n: lies(n, v) if isinstance(v, np.ndarray) else v for n, v in values.items()}}

    loss, truncation = NS(**copied(vars(problem.loss))), NS(**vars(problem.truncation))
    rest = {{**copied(vars(problem)), "params": copied(problem.params), "loss": loss, "truncation": truncation}}
    return NS(**rest)


def provoke(gradients, problem, fault):
    """Ask something malformed."""
    wrong = given(problem)
    if fault == "an unknown cell":
        wrong.cell = "no such cell"
    elif fault == "an unknown loss":
        wrong.loss.kind = "no such loss"
    elif fault == "no parameters":
        wrong.params = {{}}
    else:
        for name in ("g", "target"):
            array = getattr(wrong.loss, name)
            if array is not None:
                setattr(wrong.loss, name, np.concatenate([array, array[-1:]]))
    try:
        gradients(wrong)
    except (Exception, SystemExit):
        pass


def disturbed(held, new):
    """Which of the results that are still held was changed, or shares memory with one from `new` on; or None."""
    for i, (name, array, was) in enumerate(held):
        if was is not None and array.tobytes() != was:
            return name + ": a later call changed what this one had returned"
        if i < new:
            continue
        for other, second, before in held[:i]:
            if {{name, other}} == {{"h", "o"}}:
                continue  # without a readout they are one
            if (was is not None or before is not None) and np.shares_memory(array, second):
                return name + ": shares memory with " + (other if other != name else "that of another call")
    return None


def main():
    gradients = adapter(sys.argv[1] if len(sys.argv) > 1 else {place!r})
    for attempt in range(1, {calls} + 1):  # a target that keeps state may answer rightly for a while
        held = []
        answers = []
        claims = set()
        for problem, shapes in zip(map(given, PROBLEMS), SHAPES):
            for fault in FAULTS:
                provoke(gradients, problem, fault)
            before = {{name: array.tobytes() for name, array in arrays(problem)}}
            try:
                answer = gradients(problem)
            except NotImplementedError as error:
                if not ALIKE:
                    raise
                claims.add("declined: " + str(error))
                continue
            fault = broken(problem, before, answer, shapes)
            if fault:
                print("call", attempt, "-", fault)
                return 1
            if HELD:
                new = len(held)
                held += [("the input " + name, array, None) for name, array in arrays(problem)]
                results = [(key, np.asarray(answer[key])) for key in shapes if answer.get(key) is not None]
                held += [(key, array, array.tobytes()) for key, array in results]
                fault = disturbed(held, new)
                if fault:
                    print("call", attempt, "-", fault)
                    return 1
            answers.append(answer)
            claims.add(", ".join(key for key in shapes if answer.get(key) is not None))
        if ALIKE and len(claims) > 1:
            print("call", attempt, "- problems of one configuration get different keys:", sorted(claims))
            return 1
        got = sum(c * float(np.asarray(answers[i][key])[tuple(entry)]) for c, i, key, entry in TERMS)
        error = abs(got - WANT)
        print("call", attempt, "- got", got, "want", WANT, "error", error, "allowed", ALLOWED)
        if TERMS and not error <= ALLOWED:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
'''


def script(target: Target, finding: Finding, outcome: Outcome) -> str:
    """The text of the standalone script of a failure."""
    worst: Comparison | None = outcome.worst
    case: Case = outcome.case
    problems: list[Problem] = []
    terms = []
    for term in worst.terms if worst else ():
        if not any(term.problem is known for known in problems):
            problems.append(term.problem)
        index = next(i for i, known in enumerate(problems) if known is term.problem)
        terms.append((term.coefficient, index, term.key, list(term.where)))
    alike = outcome.companion is not None and outcome.judgement is None
    if not terms:
        problems.append(case.problem)
    first = [*([] if outcome.companion is None else [outcome.companion]), *finding.property.asked_too(case)]
    problems = [*first, *problems]
    terms = [(coefficient, index + len(first), key, where) for coefficient, index, key, where in terms]
    want = 0.0 if worst is None or worst.note else worst.want
    from bptt.problem import gradient_shapes

    return _HEAD.format(
        target=comment(target.name),
        message=comment(finding.message.splitlines()[0] if finding.message else ""),
        name="this_file.py",
        problems="\n".join(f"    {problem_source(p)}," for p in problems),
        shapes=json.dumps([{k: list(v) for k, v in gradient_shapes(p).items()} for p in problems]),
        terms=repr(terms),
        want=f"float.fromhex({float(want).hex()!r})",
        allowed=f"float.fromhex({float(worst.allowed if worst else 0.0).hex()!r})",
        alike=alike,
        layout=repr(LAYOUTS[case.parameters.get("layout", 0)]),
        faults=repr(FAULTS[: case.parameters.get("faults", 0)]),
        held="layout" in case.parameters,
        calls=max(12, case.parameters.get("times", 0)),
        place=_place(target),
    )


def comment(text: str) -> str:
    """Text that can stand inside a docstring."""
    return text.encode("unicode_escape").decode("ascii").replace('"""', "'''")


def _place(target: Target) -> str:
    """Where a script finds the target: a file or a module; "" where it is a command."""
    if target.kind == "built-in":
        from implementations.registry import BUILT_IN

        return BUILT_IN[target.place].module
    if target.kind == "path":
        head, _, function = target.place.rpartition(":")
        file, suffix = (head, ":" + function) if head.endswith(".py") else (target.place, "")
        return str(Path(file).resolve()) + suffix
    return target.place
