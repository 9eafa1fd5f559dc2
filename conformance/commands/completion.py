"""bpttcheck completion: a script that lets a shell complete commands, options, and the names that they take."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from typing import Any

import shtab

from bptt.cells import CELLS
from bptt.problem import SIGNIFICAND
from conformance.claims import CLAIMS
from conformance.screen import tell
from conformance.studies import STUDIES
from implementations.registry import BUILT_IN
from properties import PROPERTIES

HELP = "print a script for the completion of this command in a shell"
SHELLS = ("bash", "zsh", "fish")
EXAMPLES = """\
examples:
  eval "$(bpttcheck completion bash)"                       in ~/.bashrc
  bpttcheck completion zsh > "${fpath[1]}/_bpttcheck"       once, with compinit
  bpttcheck completion fish > ~/.config/fish/completions/bpttcheck.fish
"""
FILES = ("PATH", "FILE", "OLD", "NEW")
"""What stands for a file in the words of --help; DIR stands for a folder."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("shell", choices=SHELLS)


def main(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from conformance.cli import build_parser

    parser = build_parser()
    for command, action in _actions(parser):
        complete = _complete(command, action)
        if complete is not None:
            action.complete = complete  # type: ignore[attr-defined]
    script = shtab.complete(parser, shell=arguments.shell)
    if arguments.shell == "zsh":  # it has "(*)" before an argument of several values, and zsh then completes the first
        script = re.sub(r'(?m)^(  ")\(\*\)::?', r"\1*:", script)
    tell(script)
    return 0


def _complete(command: str, action: argparse.Action) -> Any:
    """How the values of an argument are completed, as shtab takes it; None where they are not, or by its choices."""
    listed: dict[tuple[str, str], Iterable[str]] = {
        ("certify", "select"): PROPERTIES,
        ("explore", "select"): PROPERTIES,
        ("vectors verify", "dtypes"): SIGNIFICAND,
    }
    single: dict[str, Iterable[str]] = {"cell": CELLS, "study": STUDIES, "claims": CLAIMS}
    if (command, action.dest) in listed:
        return words_between_commas(action.dest, listed[command, action.dest])
    if action.dest in single:
        return words_or_files(action.dest, single[action.dest])
    if action.metavar == "TARGET":
        return words_or_files("target", BUILT_IN, "*.py")
    if action.metavar in ("CASE", "PROBLEM"):
        return words_or_files("case", (), "*.safetensors")
    if action.metavar in FILES:
        return shtab.FILE
    return shtab.DIRECTORY if action.metavar == "DIR" else None


def words_or_files(name: str, words: Iterable[str], pattern: str = "") -> Any:
    """Some words, and the files of a pattern with the folders on the way to them."""
    said, function = " ".join(words), f"_bpttcheck_{'file_' if pattern else ''}{name}"
    bash = [f'compgen -W "{said}" -- "$1"']
    zsh = [f"compadd -- {said}"] if said else []
    fish = [f"printf '%s\\n' {said}"] if said else []
    if pattern:
        bash += [f"compgen -f -X '!{pattern}' -- \"$1\"", 'compgen -d -- "$1"']
        zsh += [f"_files -g '{pattern}'"]
        files = "__fish_complete_path (commandline -ct)"
        fish += [f"{files} | string match -r '.*(?:/|{re.escape(pattern[1:])})(?:\\t.*)?$'"]
    return _functions(function, bash, zsh, fish)


def words_between_commas(name: str, words: Iterable[str]) -> Any:
    """Some words, of which several are given with commas between them."""
    said = " ".join(words)
    bash = ['local head=""', '[[ $1 == *,* ]] && head="${1%,*},"', f'compgen -P "$head" -W "{said}" -- "${{1##*,}}"']
    fish = [
        "set -l head (string match -r '.*,' -- (commandline -ct); or echo)",
        f"for word in {said}",
        '  echo "$head$word"',
        "end",
    ]
    return _functions(f"_bpttcheck_{name}", bash, [f"_values -s , {name} {said}"], fish)


def _functions(name: str, bash: list[str], zsh: list[str], fish: list[str]) -> Any:
    """The bodies of a function as shtab takes it: in each shell its name, and its text before everything else."""

    def text(head: str, lines: list[str], end: str) -> str:
        return "\n".join([head, *(f"  {line}" for line in lines), end])

    return {
        "bash": name,
        "zsh": name,
        "fish": f"({name})",
        "preamble": {
            "bash": text(f"{name}() {{", bash, "}"),
            "zsh": text(f"{name}() {{", zsh, "}"),
            "fish": text(f"function {name}", fish, "end"),
        },
    }


def _actions(parser: argparse.ArgumentParser, command: str = "") -> Iterator[tuple[str, argparse.Action]]:
    """The arguments of all commands, each with the command that takes it."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for name, sub in action.choices.items():
                yield from _actions(sub, f"{command} {name}".strip())
        else:
            yield command, action
