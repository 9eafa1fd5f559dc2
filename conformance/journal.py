"""The journal of a run: its findings as they are made, kept in the report directory until the report is whole.

`certify --resume` takes up a journal where an interrupted run left it. A finding depends on nothing but the target, the
seed, the profile and the versions of what computes, so that the findings of two sittings are those of one; the first
line of a journal names these, and a run in which one of them is another is refused. One line of JSON an item follows; a
line that a crash cut off does not count. What is read is trusted no more than any other file.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped, unused-ignore]

from bptt.errors import FileError
from bptt.files import load_case, load_problem
from conformance.bench import Executed
from conformance.diagnosis import Failure
from conformance.errors import UsageError
from conformance.items import Item, Judged
from conformance.render import MAX_BYTES, SCHEMA, visible

NAME = "unfinished.jsonl"
"""The journal's file in the report directory; it is removed once the run is whole."""
FORMAT = 1

Key = tuple[str, str, str]
"""An item: property, cell, dtype."""

_NAMES = {"type": "array", "items": {"type": "string"}}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_JUDGED = {
    "type": "object",
    "additionalProperties": False,
    "required": ["target", "finding", "executed", "wrong", "compiled"],
    "properties": {
        "target": {"type": "string"},
        "finding": {"$ref": "#/$defs/finding"},
        "wrong": {"type": "boolean", "description": "Whether a wrong number is to be diagnosed."},
        "compiled": _TEXTS,
        "executed": {
            "type": "object",
            "additionalProperties": False,
            "required": ["names", "keys", "unclaimed", "extra", "declined"],
            "properties": {
                "names": {"type": "object", "additionalProperties": _NAMES},
                **dict.fromkeys(("keys", "unclaimed", "extra", "declined"), _NAMES),
            },
        },
    },
}
_FIRST = {
    "type": "object",
    "required": ["format", "started", "run"],
    "properties": {"format": {"const": FORMAT}, "started": {"type": "string", "maxLength": 40}, "run": _TEXTS},
}
_LINE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["item", "seconds", "judged"],
    "properties": {
        "item": {"type": "array", "items": {"type": "string"}, "minItems": 3, "maxItems": 3},
        "seconds": {"type": "number", "minimum": 0},
        "judged": {"type": "array", "items": _JUDGED},
    },
}


@dataclass
class Journal:
    """A journal that is being written.

    started  when the run began, at its first sitting
    before   the seconds that earlier sittings took
    found    the findings of earlier sittings, by item
    """

    path: Path
    started: str
    before: float
    found: dict[Key, list[Judged]]

    def __post_init__(self) -> None:
        self._clock = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long the run has taken, all sittings together."""
        return self.before + time.perf_counter() - self._clock

    def add(self, item: Item, judged: Sequence[Judged]) -> None:
        """Write down what was found of one item."""
        line = {
            "item": list(key_of(item)),
            "seconds": round(self.seconds, 3),
            "judged": [_judged_json(one) for one in judged],
        }
        with _still_there(self.path.parent), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=True, allow_nan=False) + "\n")

    def remove(self) -> None:
        """The run is whole: results.json holds it all."""
        self.path.unlink(missing_ok=True)


def key_of(item: Item) -> Key:
    """What names an item within its run."""
    return item.property, item.cell, item.dtype


@contextlib.contextmanager
def _still_there(report_dir: Path) -> Iterator[None]:
    """Raises: UsageError where the report directory has gone since the run began."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            f"--report-dir {report_dir} was removed or replaced during the run; "
            "expected nobody, the target included, to touch it before the end"
        ) from error


def begin(report_dir: Path, run: Mapping[str, str]) -> Journal:
    """A new journal, in place of any that is there."""
    path = report_dir / NAME
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with _still_there(report_dir):
        path.write_text(json.dumps({"format": FORMAT, "started": started, "run": run}) + "\n", encoding="utf-8")
    return Journal(path, started, 0.0, {})


def resume(report_dir: Path, run: Mapping[str, str]) -> Journal:
    """The journal of an interrupted run of the same kind. Raises: UsageError, naming what is missing or another."""
    path = report_dir / NAME
    first, rest, whole = _read(path)
    for name in dict.fromkeys((*run, *first["run"])):
        old, new = first["run"].get(name, "nothing"), run.get(name, "nothing")
        if old != new:
            raise UsageError(
                f"--resume: {name} is {new}, and was {old} when {report_dir} was begun; "
                "expected the same, or a new run without --resume"
            )
    found: dict[Key, list[Judged]] = {}
    compiled: dict[str, str] = {}
    for line in rest:
        try:
            judged = [_judged(one, report_dir) for one in line["judged"]]
        except FileError:  # a case is gone or is no case any more: the item is judged again
            continue
        property_id, cell, dtype = line["item"]
        found[property_id, cell, dtype] = judged
        for one in judged:
            agree(compiled, one.compiled)
    if not whole:  # the line that a crash cut off must not join the next
        text = path.read_bytes()
        path.write_bytes(text[: text.rfind(b"\n") + 1])
    return Journal(path, first["started"], rest[-1]["seconds"] if rest else 0.0, found)


def agree(before: dict[str, str], now: Mapping[str, str]) -> None:
    """Add compiled objects to those seen before. Raises: UsageError where one of them is another by now."""
    for name, digest in now.items():
        if before.setdefault(name, digest) != digest:
            raise UsageError(f"--resume: {name} was built anew since the run began; start again without --resume")


def digest_of(files: Sequence[Path]) -> str:
    """One SHA-256 of many files, their names included."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(hashlib.sha256(file.name.encode()).digest() + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], bool]:
    """(the first line, those that follow, whether the last was whole). Raises: UsageError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(
            f"--resume: {path.parent} holds no interrupted run; expected one, or the same command without --resume"
        ) from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: larger than {MAX_BYTES} bytes, the most that is read; start again without --resume")
    *texts, cut = data.split(b"\n")
    try:
        lines = [json.loads(text.decode("utf-8"), parse_constant=_no_constant) for text in texts]
        if not lines:
            raise ValueError("it is empty")  # noqa: TRY301 - as every other fault of the file
        for number, line in enumerate(lines):
            error = next(_validator(first=number == 0).iter_errors(line), None)
            if error is not None:
                raise ValueError(f"line {number + 1}: {error.json_path}: {error.message[:200]}")  # noqa: TRY301
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path}: not the journal of a run ({visible(str(error))}); start again without --resume"
        ) from error
    return lines[0], lines[1:], not cut


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


@functools.cache
def _validator(*, first: bool) -> jsonschema.Draft202012Validator:
    definitions = json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]
    return jsonschema.Draft202012Validator({**(_FIRST if first else _LINE), "$defs": definitions})


def _judged_json(one: Judged) -> dict[str, Any]:
    executed = one.executed
    return {
        "target": one.target,
        "finding": one.finding,
        "wrong": one.failure is not None,
        "compiled": dict(one.compiled),
        "executed": {
            "names": {name: sorted(values) for name, values in executed.names.items()},
            **{name: sorted(getattr(executed, name)) for name in ("keys", "unclaimed", "extra", "declined")},
        },
    }


def _judged(line: dict[str, Any], report_dir: Path) -> Judged:
    """A finding as it was judged. Raises: FileError, where a case that is to be diagnosed cannot be read."""
    told = line["executed"]
    executed = Executed(
        {name: set(values) for name, values in told["names"].items()},
        *(set(told[name]) for name in ("keys", "unclaimed", "extra", "declined")),
    )
    failure = _failure(line["finding"], report_dir) if line["wrong"] else None
    return Judged(line["target"], line["finding"], executed, failure, line["compiled"])


def _failure(finding: dict[str, Any], report_dir: Path) -> Failure:
    """The problems of a failure, read from its case files."""
    counterexample = finding["counterexample"] or {"case": "", "worst_case": None}
    case = _beside(report_dir, counterexample["case"])
    smallest, extra = load_case(case)
    after, worst = extra.get("after"), counterexample["worst_case"]
    return Failure(
        smallest,
        smallest if worst is None else load_problem(_beside(report_dir, worst)),
        None if after is None else load_problem(_beside(report_dir, f"cases/{after}")),
    )


def _beside(report_dir: Path, name: str) -> Path:
    """A case file of the report, and no other file. Raises: FileError."""
    folder, _, file = name.partition("/")
    if folder != "cases" or "/" in file or not file.endswith(".safetensors"):
        raise FileError(f"{name!r} is no case of the report")
    return report_dir / "cases" / file


__all__ = ["NAME", "Journal", "agree", "begin", "digest_of", "key_of", "resume"]
