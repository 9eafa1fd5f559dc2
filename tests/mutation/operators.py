"""What a mutant changes: cosmic-ray's operators without those that crash at once, and two of our own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator, operator_names
from parso.python.tree import Keyword, Name

ARITHMETIC = ("Add", "Sub", "Mul", "Div")
OTHERS = ("FloorDiv", "Mod", "Pow")  # become one of those above, and nothing becomes one of them
BITS = {("BitOr", "BitAnd"), ("BitAnd", "BitOr"), ("LShift", "RShift"), ("RShift", "LShift")}
ORDER = ("Eq", "NotEq", "Lt", "LtE", "Gt", "GtE")
UNARY = {"Delete_USub", "Delete_Not", "Delete_Invert", "USub_UAdd"}
PLAIN = {
    "AddNot",
    "NumberReplacer",
    "RemoveDecorator",
    "ReplaceAndWithOr",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ZeroIterationForLoop",
}
SWAPS = {
    "maximum": "minimum",
    "max": "min",
    "any": "all",
    "ceil": "floor",
    "zeros": "ones",
    "zeros_like": "ones_like",
    "abs": "positive",
    "sum": "max",
    "logical_or": "logical_and",
}
SWAPS |= {new: old for old, new in SWAPS.items() if old not in ("abs", "sum", "max")} | {"min": "max"}
KINDS = {"ReplaceBinaryOperator": "operator", "ReplaceComparisonOperator": "comparison", "NumberReplacer": "number"}
FOR_TYPES = ("abstractmethod", "overload", "override", "runtime_checkable")
"""Decorators that no run can miss."""


class DropStatement(Operator):
    """An operator that leaves out `x += y` and calls whose result is not used."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type == "simple_stmt" and self._may_go(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        first = node.children[0]
        node.children[0] = Keyword("pass", first.start_pos, prefix=first.get_first_leaf().prefix)
        return node

    @staticmethod
    def _may_go(first: Any) -> bool:
        if first.type == "expr_stmt":
            second = first.children[1]
            return second.type == "operator" and second.value != "="
        return first.type in ("atom_expr", "power") and first.children[-1].get_code().startswith("(")

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("x += 1\n", "pass\n"), Example("f(x)\n", "pass\n"))


class SwapFunction(Operator):
    """An operator that calls the function that is easily mistaken for another: max for min."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if isinstance(node, Name) and node.value in SWAPS and self._called(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.value = SWAPS[node.value]
        return node

    @staticmethod
    def _called(node: Any) -> bool:
        """Whether a parenthesis follows; builtins have no `positive` and no sum that is a max of nothing."""
        after, before = node.get_next_leaf(), node.get_previous_leaf()
        attribute = before is not None and before.value == "."
        return after is not None and after.value == "(" and (attribute or node.value in ("max", "min", "any", "all"))

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("np.max(x)", "np.min(x)"), Example("np.abs(x)", "np.positive(x)"))


@dataclass(frozen=True)
class Mutant:
    """One change of one file: an operator at its `occurrence`-th position, which begins on `line`."""

    path: str
    operator: str
    occurrence: int
    start: tuple[int, int]

    @property
    def name(self) -> str:
        return f"{self.path}:{self.start[0]}:{self.start[1]} {self.operator} #{self.occurrence}"


def _wanted(name: str) -> bool:
    """Whether a core operator of cosmic-ray makes mutants that are worth a run."""
    name = name.removeprefix("core/")
    kind, _, change = name.partition("_")
    if kind == "ReplaceBinaryOperator":
        old, new = change.split("_")
        return (old, new) in BITS or (old in ARITHMETIC + OTHERS and new in ARITHMETIC)
    if kind == "ReplaceComparisonOperator":
        old, new = change.split("_")
        return (old in ORDER and new in ORDER) or {old, new} == {"Is", "IsNot"}
    return change in UNARY if kind == "ReplaceUnaryOperator" else name in PLAIN


@lru_cache
def operators() -> dict[str, Operator]:
    """The operators by name, without cosmic-ray's prefix."""
    core = {name.removeprefix("core/"): get_operator(name)() for name in sorted(operator_names()) if _wanted(name)}
    return core | {"DropStatement": DropStatement(), "SwapFunction": SwapFunction()}


def mutants_of(path: str, source: str) -> list[Mutant]:
    """All mutants of a file that still compile, but those in annotations and of decorators for types alone."""
    nodes = list(ast_nodes(get_ast(source)))
    barred = list(_annotations(ast.parse(source)))
    found = []
    of_type: dict[str, list[Any]] = {}
    for node in nodes:
        of_type.setdefault(node.type, []).append(node)
    for name, operator in operators().items():
        kind = KINDS.get(name.partition("_")[0])  # the operators are many, and look at few types of nodes
        places = [
            (node, place)
            for node in (nodes if kind is None else of_type.get(kind, []))
            for place in operator.mutation_positions(node)
        ]
        for k, (node, (start, end)) in enumerate(places):
            if any(low <= start and end <= high for low, high in barred):
                continue
            if name == "RemoveDecorator" and any(word in node.get_code() for word in FOR_TYPES):
                continue
            found.append(Mutant(path, name, k, start))
    return found


def _annotations(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            part = getattr(node, field, None)
            if part is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def mutated(source: str, mutant: Mutant) -> str | None:
    """The file with the change, or None where that is no Python, or no change."""
    code = MutationVisitor.mutate_code(source, operators()[mutant.operator], mutant.occurrence)
    try:
        compile(code or "", mutant.path, "exec", dont_inherit=True)
    except SyntaxError:
        return None
    return None if code == source else code


def read(root: Path, path: str) -> str:
    """A source file with its line ends."""
    return (root / path).read_bytes().decode()
