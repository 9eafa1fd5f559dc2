"""bpttcheck completion: a script that lets a shell complete commands, options, and the names that they take."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import shtab

from bptt.cells import CELLS
from properties import PROPERTIES

HELP = "print a script for the completion of this command in a shell"
SHELLS = ("bash", "zsh", "fish")
EXAMPLES = """\
examples:
  eval "$(bpttcheck completion bash)"                       in ~/.bashrc
  bpttcheck completion zsh > "${fpath[1]}/_bpttcheck"       once, with compinit
  bpttcheck completion fish > ~/.config/fish/completions/bpttcheck.fish
"""
FILES = ("TARGET", "CASE", "PROBLEM", "PATH", "FILE", "OLD", "NEW")
"""What stands for a file in the words of --help; DIR stands for a folder."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("shell", choices=SHELLS)


def main(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from conformance.cli import build_parser

    parser = build_parser()
    for action in _actions(parser):
        if action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "DIR":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.dest == "cell":
            action.choices = tuple(CELLS)
        elif action.dest == "select":
            action.choices = tuple(PROPERTIES)
    print(shtab.complete(parser, shell=arguments.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of all commands."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action
