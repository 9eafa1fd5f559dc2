"""Writes docs/reference/commands.md: the command line, read from the parser that parses it.

    python docs/make_commands.py

Nothing is taken from what argparse prints, which differs from one Python to the next: the page is the same under all.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from conformance.cli import build_parser

PAGE = Path(__file__).parent / "reference" / "commands.md"
HEAD = """\
# The command line

{description}
This page is made from the parser by `python docs/make_commands.py`; `bpttcheck COMMAND --help` says the same.

| exit status | meaning |
|---|---|
| 0 | certified, or done |
| 1 | not conformant, or something found |
| 2 | bad usage or bad input, said in one line that names the fix |
| 3 | no verdict: nothing executed, inconclusive, a target unavailable, an error of ours |

Of several the first of 2, 1, 3, 0 is given. `BPTTCHECK_TRACEBACK=1` shows the traceback of an error of ours.

| command | |
|---|---|
"""


def page() -> str:
    """The whole page."""
    parser = build_parser()
    commands = dict(subcommands(parser))
    rows = [f"| [`bpttcheck {name}`](#bpttcheck-{name}) | {help_of(parser, name)} |\n" for name in commands]
    parts = [part for name, sub in commands.items() for part in section(sub, 2)]
    return HEAD.format(description=parser.description) + "".join(rows) + "\n" + "\n".join(parts)


def subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A parser's commands by their names, each once."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            seen: set[int] = set()
            for name, sub in action.choices.items():
                if id(sub) not in seen:
                    seen.add(id(sub))
                    yield name, sub


def help_of(parser: argparse.ArgumentParser, name: str) -> str:
    """The words beside a command in its parser's list."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                if choice.dest == name:
                    return cell(choice.help or "")
    return ""


def section(parser: argparse.ArgumentParser, depth: int) -> Iterator[str]:
    """A command: what it does, its arguments, examples, and the commands below it."""
    yield f"{'#' * depth} {parser.prog}\n"
    if parser.description:
        yield f"{parser.description}\n"
    actions = [a for a in parser._actions if not isinstance(a, argparse._SubParsersAction | argparse._HelpAction)]
    actions = [a for a in actions if a.help is not argparse.SUPPRESS]
    if actions:
        rows = [f"| {' '.join(names(action))} | {cell(meaning(action))} |" for action in actions]
        yield "\n".join(["| argument | |", "|---|---|", *rows]) + "\n"
    words, commands = examples(parser.epilog or "")
    if commands:
        yield "```sh\n" + "\n".join(commands) + "\n```\n"
    if words:
        yield words + "\n"
    for _, sub in subcommands(parser):
        yield from section(sub, depth + 1)


def names(action: argparse.Action) -> Iterator[str]:
    """How an argument is written: `--jobs N`, `TARGET...`."""
    many = {"*": "...", "+": "..."}.get(str(action.nargs), "")
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper())
    value = " ".join(value) if isinstance(value, tuple) else value
    if not action.option_strings:
        shown = f"[{value}]" if action.nargs in ("?", "*") else value
        yield f"`{shown}{many}`"
        return
    given = "" if action.nargs == 0 else f" {value}{many}"
    yield ", ".join(f"`{option}{given}`" for option in action.option_strings)


def meaning(action: argparse.Action) -> str:
    """An argument's words, with its choices and its default where the words do not say them."""
    text = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
    if action.choices and not action.option_strings and action.metavar:
        text += f" ({', '.join(map(str, action.choices))})"
    plain = action.default not in (None, False, argparse.SUPPRESS) and action.nargs != 0
    if plain and "default" not in text:
        text += f" (default: {action.default})"
    return text.strip()


def examples(epilog: str) -> tuple[str, list[str]]:
    r"""The words of an epilog that are no examples, and the commands that are.

    >>> examples("examples:\n  bpttcheck list cells\n\nexit status: 0 done")
    ('exit status: 0 done', ['bpttcheck list cells'])
    """
    lines = [line.strip() for line in epilog.splitlines()]
    commands = [re.sub(r"\s+\((.*)\)$", r"     # \1", line) for line in lines if line.startswith("bpttcheck ")]
    words = [line for line in lines if line and not re.match(r"bpttcheck |examples?:$", line)]
    return " ".join(words), commands


def cell(text: str) -> str:
    """Text within a table's cell, one line, with nothing in it that Markdown or HTML would read."""
    plain = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"(?<![\w`])(--[a-z][a-z-]+)", r"`\1`", plain)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
