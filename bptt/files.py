"""Problems in files: safetensors, whose metadata holds one JSON text under the key `bpttcheck`.

Every array is stored bit for bit under its dotted name (params.W_hh, x, loss.g, ...). What comes from outside is
hostile until checked: the size is bounded before anything is read, and a loaded problem validates itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bptt.errors import FileError, ProblemError
from bptt.problem import DTYPES, Loss, Problem
from bptt.truncation import Truncation

FORMAT = "bpttcheck-problem"
VERSION = 1
MAX_BYTES = 256 << 20
_ARRAYS = ("x", "h0", "c0", "lengths", "loss.g", "loss.g_h_final", "loss.g_c_final", "loss.target")


def header_of(problem: Problem) -> dict[str, Any]:
    """Everything about a problem but its arrays, as JSON has it."""
    loss, truncation = problem.loss, problem.truncation
    return {
        "cell": problem.cell,
        "activation": problem.activation,
        "readout": problem.readout,
        "dtype": problem.dtype,
        "loss": {
            "kind": loss.kind,
            "scale": loss.scale,
            "time_reduction": loss.time_reduction,
            "batch_reduction": loss.batch_reduction,
        },
        "truncation": {"kind": truncation.kind, "k": truncation.k, "k1": truncation.k1, "k2": truncation.k2},
    }


def to_bytes(problem: Problem, extra: dict[str, Any] | None = None) -> bytes:
    """The file's bytes, the same for the same problem; `extra` is JSON that travels along (a case's property, say)."""
    header = {"format": FORMAT, "version": VERSION, **header_of(problem), "extra": extra or {}}
    arrays = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in problem.arrays()}
    return save(arrays, metadata={"bpttcheck": json.dumps(header, sort_keys=True)})


def save_problem(problem: Problem, path: Path | str, extra: dict[str, Any] | None = None) -> None:
    """Write a problem to a .safetensors file, bit for bit."""
    Path(path).write_bytes(to_bytes(problem, extra))


def load_problem(path: Path | str) -> Problem:
    """Read a problem file. Raises: FileError, one line that names the file and what is wrong with it."""
    return load_case(path)[0]


def load_case(path: Path | str) -> tuple[Problem, dict[str, Any]]:
    """A problem and the JSON that travels with it. Raises: FileError, as `load_problem`."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise FileError(f"{path}: not a file; expected a problem file (.safetensors)")
        if size > MAX_BYTES:
            raise FileError(f"{path}: {size} bytes, expected a problem file of at most {MAX_BYTES}")
        with safe_open(str(path), framework="np") as file:
            metadata = file.metadata() or {}
            header = _header(path, metadata)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}; expected a problem file (.safetensors)") from error
    except SafetensorError as error:
        raise FileError(f"{path}: truncated or no safetensors file ({_printable(error)})") from error
    except (AttributeError, TypeError) as error:  # safetensors has dtypes that NumPy lacks
        raise FileError(f"{path}: holds an array of a dtype that no problem has ({_printable(error)})") from error
    try:
        return _problem(header, arrays), header.get("extra", {})
    except (ProblemError, KeyError, TypeError, AttributeError) as error:
        what = _printable(error)
        if not isinstance(error, ProblemError):
            what = f"its header has a wrong or missing field ({what})"
        raise FileError(f"{path}: not a valid problem: {what}") from error


def _printable(error: Exception) -> str:
    """An error's text in one line of bounded length: names from the file stand in it."""
    text = str(error) if len(str(error)) <= 1000 else f"{str(error)[:1000]} …"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _header(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    try:
        header = json.loads(metadata.get("bpttcheck", "null"))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: its metadata is not JSON ({_printable(error)})") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FileError(f"{path}: not a problem file: its metadata lacks format {FORMAT!r}")
    if header.get("version") != VERSION:
        raise FileError(f"{path}: version {header.get('version')!r}, expected {VERSION}; this bpttcheck cannot read it")
    if not isinstance(header.get("extra", {}), dict):
        raise FileError(f"{path}: its field extra is not an object")
    return header


def _problem(header: dict[str, Any], arrays: dict[str, Any]) -> Problem:
    known = {name: arrays.pop(name, None) for name in _ARRAYS}
    params = {name.removeprefix("params."): arrays.pop(name) for name in list(arrays) if name.startswith("params.")}
    if arrays:
        raise ProblemError(f"arrays: got the unknown {', '.join(sorted(arrays))}")
    if known["x"] is None:
        raise ProblemError("x: missing")
    if header["dtype"] not in DTYPES:
        raise ProblemError(f"dtype: got {header['dtype']!r}, expected one of {', '.join(DTYPES)}")
    loss = header["loss"]
    return Problem(
        cell=header["cell"],
        activation=header["activation"],
        readout=header["readout"],
        dtype=header["dtype"],
        params=params,
        x=known["x"],
        h0=known["h0"],
        c0=known["c0"],
        lengths=known["lengths"],
        loss=Loss(
            kind=loss["kind"],
            scale=loss["scale"],
            time_reduction=loss["time_reduction"],
            batch_reduction=loss["batch_reduction"],
            **{name: known[f"loss.{name}"] for name in ("g", "g_h_final", "g_c_final", "target")},
        ),
        truncation=Truncation(**header["truncation"]),
    )
