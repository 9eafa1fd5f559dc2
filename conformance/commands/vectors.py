"""bpttcheck vectors: write the language-neutral test vectors, and judge answers to them from any program."""

from __future__ import annotations

import argparse
import fnmatch
import os
from pathlib import Path

from bptt.problem import SIGNIFICAND
from conformance.errors import UsageError
from conformance.render.terminal import many
from conformance.screen import say
from conformance.vectors.answers import read_answers
from conformance.vectors.corpus import read_corpus
from conformance.vectors.export import counter, export
from conformance.vectors.lint import complaints
from conformance.vectors.selection import selection
from conformance.vectors.verify import Verdict, matching, verify

HELP = "write test vectors that any language reads, or judge answers to them"
EXAMPLES = """\
examples:
  bpttcheck vectors export --out vectors
  bpttcheck vectors export --out few --select 'elman-tanh-*,lstm-classes-*'
  bpttcheck vectors verify answers.json --vectors vectors
  bpttcheck vectors verify answers.safetensors --dtypes float32 --keys dW_hh,dx

docs/vectors.md has the formats. verify ends with status 0 where all that was
asked for is there and within budget, 1 where something is wrong, 2 where a file
cannot be read, 3 where answers are missing or nothing could be judged.
"""
SHOWN = 20
"""Wrong arrays, and missing answers, that are printed."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    what = parser.add_subparsers(dest="what", metavar="export|verify", required=True)
    one = what.add_parser("export", help="write the corpus into a folder", description="Write the corpus.")
    one.add_argument("--out", type=Path, default=Path("vectors"), metavar="DIR", help="default: vectors")
    one.add_argument("--select", default="", metavar="ID,...", help="ids or patterns such as 'lstm-*' (default: all)")
    one.add_argument("--jobs", type=_jobs, default=_cores(), metavar="N", help="processes (default: one a core)")
    two = what.add_parser("verify", help="judge a file of answers", description="Judge a file of answers.")
    two.add_argument("file", type=Path, metavar="FILE", help="answers: JSON or safetensors, see docs/vectors.md")
    two.add_argument("--vectors", type=Path, default=Path("vectors"), metavar="DIR", help="default: vectors")
    two.add_argument("--select", default="", metavar="ID,...", help="what is asked: ids or patterns (default: all)")
    two.add_argument("--dtypes", default="", metavar="DTYPE,...", help="default: those that something is answered in")
    two.add_argument("--keys", default="", metavar="KEY,...", help="arrays that are asked (default: all)")


def main(arguments: argparse.Namespace) -> int:
    """The exit status of what was asked."""
    return _export(arguments) if arguments.what == "export" else _verify(arguments)


def _export(arguments: argparse.Namespace) -> int:
    every, patterns = list(selection()), _words(arguments.select)
    for pattern in patterns:
        if not fnmatch.filter(every, pattern):
            raise UsageError(f"--select {pattern!r}: no vector is called so; expected ids or patterns like 'lstm-*'")
    chosen = [i for i in every if not patterns or any(fnmatch.fnmatchcase(i, pattern) for pattern in patterns)]
    size = export(arguments.out, chosen, arguments.jobs, counter(len(chosen)))
    wrong = complaints(read_corpus(arguments.out), whole=len(chosen) == len(every))
    for line in wrong[:SHOWN]:
        say(line)
    if wrong:
        say(f"the corpus does not pass its own lint: {many(len(wrong), 'complaint')}; please report it")
        return 3
    say(f"{many(len(chosen), 'vector')}, {size / 2**20:.1f} MiB: {arguments.out / 'index.json'}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    corpus = read_corpus(arguments.vectors)
    dtypes, keys = _words(arguments.dtypes), _words(arguments.keys)
    known = {key for entry in corpus.vectors.values() for key in entry["arrays"]}
    for option, words, choices in (("--dtypes", dtypes, set(SIGNIFICAND)), ("--keys", keys, known)):
        for word in words:
            if word not in choices:
                raise UsageError(f"{option}: got {word!r}, expected some of {', '.join(sorted(choices))}")
    chosen = matching(corpus, _words(arguments.select))
    with read_answers(arguments.file) as answers:
        verdict = verify(corpus, answers, chosen, dtypes or None, keys or None)
    _say(verdict)
    return verdict.status


def _say(verdict: Verdict) -> None:
    for message in verdict.wrong[:SHOWN]:
        say(message)
    if len(verdict.wrong) > SHOWN:
        say(f"and {many(len(verdict.wrong) - SHOWN, 'more wrong array')}")
    lines = _missing(verdict)
    for line in lines[:SHOWN]:
        say(f"missing: {line}")
    if len(lines) > SHOWN:
        say(f"missing: and {len(lines) - SHOWN} more")
    for line in verdict.unknown[:SHOWN]:
        say(f"ignored: {line}, which the vector does not have")
    says = {0: "all within budget", 1: "not conformant", 3: "no verdict"}[verdict.status]
    if verdict.asked:
        say(f"{says}: {verdict.whole} of {verdict.asked} answers complete (one a vector and dtype)")
    else:
        say(f"{says}: the file answers nothing of what was asked")
    count = verdict.conclusive + verdict.vague + len(verdict.wrong)
    say(f"arrays: {count} judged, {len(verdict.wrong)} wrong, {verdict.vague} inconclusive")
    if verdict.worst[1]:
        say(f"largest error that passed: {verdict.worst[0]:.3g} of the budget,\n  {verdict.worst[1]}")


def _missing(verdict: Verdict) -> list[str]:
    """A line for each vector that is missing in some dtypes, and for each answer that lacks some keys."""
    whole: dict[str, list[str]] = {}
    lines = []
    for (vector_id, dtype), keys in verdict.missing.items():
        if (vector_id, dtype) in verdict.partial:
            lines.append(f"{vector_id} in {dtype}: {', '.join(keys)}")
        else:
            whole.setdefault(vector_id, []).append(dtype)
    return [*lines, *(f"{vector_id} in {', '.join(dtypes)}" for vector_id, dtypes in whole.items())]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _jobs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from 1 to 256")
    return int(text)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
