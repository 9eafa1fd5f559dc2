"""bpttcheck claims: what five public texts say about BPTT, decided by the oracle."""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from pathlib import Path

from conformance.commands.setting import seed
from conformance.errors import UsageError
from conformance.render.terminal import visible
from conformance.results import prepare_directory
from conformance.screen import tell
from oracle import canary

HELP = "decide 34 claims about BPTT, each with its counterexample or what shows it"
EXAMPLES = """\
examples:
  bpttcheck claims
  bpttcheck claims C18 C22 --report-dir claims
  bpttcheck claims --quick --json

exit status: 0 every claim was decided, 2 bad usage, 3 some claim was not
"""
WIDTH = 80


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("claims", nargs="*", metavar="ID", help="which ones (default: all, C01 to C34)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the problems, short studies; C08 stays open")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="from which problems are drawn (default: 0)")
    parser.add_argument(
        "--report-dir", type=Path, metavar="DIR", help="where to write claims.json, claims.html and claims.md"
    )
    parser.add_argument("--json", action="store_true", help="print claims.json instead of the table")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0, or 3 where a claim was left undecided."""
    from conformance.claims import CLAIMS
    from conformance.claims.base import Run
    from conformance.claims.report import as_json, counted, tally, verdict, write

    wanted = [name.upper() for name in arguments.claims] or list(CLAIMS)
    unknown = [name for name, id_ in zip(arguments.claims, wanted, strict=False) if id_ not in CLAIMS]
    if unknown:
        raise UsageError(f"claim {unknown[0]!r} is not known; there are {min(CLAIMS)} to {max(CLAIMS)}")
    if arguments.seed < 0:
        raise UsageError(f"--seed: got {arguments.seed}, expected an integer of at least 0")
    if arguments.report_dir:
        prepare_directory(arguments.report_dir)
    canary.check("before the claims")
    run, begin = Run(quick=arguments.quick, seed=arguments.seed), time.monotonic()
    found = []
    for name in sorted(set(wanted)):
        found.append((CLAIMS[name], CLAIMS[name].decide(run)))
        if not arguments.json:
            (claim,) = as_json(found[-1:], run, 0)["claims"]
            tell(_row(name, claim["statement"], verdict(claim)))
    results = as_json(found, run, time.monotonic() - begin)
    if arguments.json:
        tell(json.dumps(results, indent=1, ensure_ascii=False))
    else:
        tell(f"\n{counted(len(found))}: {tally(results)}; {results['seconds']:.0f} s")
    if arguments.report_dir:
        write(results, arguments.report_dir)
        if not arguments.json:
            tell(f"report: {visible(str(arguments.report_dir / 'claims.html'))}")
    return 3 if any(finding.verdict == "undecided" for _, finding in found) else 0


def _row(name: str, statement: str, verdict: str) -> str:
    """Two columns of text beside the id, within 80 characters."""
    left, right = textwrap.wrap(statement, 38), textwrap.wrap(verdict, 34)
    lines = []
    for i in range(max(len(left), len(right))):
        a, b = (part[i] if i < len(part) else "" for part in (left, right))
        lines.append(f"{name if i == 0 else '':4} {a:38}  {b}".rstrip())
    return "\n".join(lines)
