"""Problem files: every bit comes back, the same problem is the same bytes, and all else a file may hold is refused."""

from __future__ import annotations

import copy
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bptt import files
from bptt.cells import CELLS
from bptt.errors import FileError
from bptt.files import load_case, load_problem, save_problem, to_bytes
from bptt.problem import DTYPES, Loss, Problem
from bptt.truncation import Truncation

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
Header = dict[str, Any]
SPECIAL_BITS = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 23}  # the fraction's width


def any_floats(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Finite floats of random bits, with subnormals, both zeros and the largest among them."""
    native = DTYPES[dtype]
    words = rng.integers(0, 2 ** (8 * native.itemsize), shape, dtype=np.uint64)
    fraction = np.uint64(SPECIAL_BITS[dtype])
    low = np.uint64(16 if dtype == "bfloat16" else 0)
    sign = np.uint64(8 * native.itemsize - 1)
    infinity = ((np.uint64(1) << sign) - np.uint64(1)) >> fraction << fraction
    special = np.array([0, 1 << int(sign), 1 << int(low), int(infinity) - (1 << int(low))], dtype=np.uint64)
    words = np.where(rng.random(shape) < 0.3, rng.choice(special, shape), words) >> low << low
    words = np.where(words & infinity == infinity, words ^ infinity, words)  # no infinities, no NaN
    return words.astype(f"u{native.itemsize}").view(native).reshape(shape)


@st.composite
def any_problem(draw: st.DrawFn) -> Problem:
    """A problem of any cell, dtype, loss, reduction, truncation and size, its arrays any bits at all."""
    cell, dtype = CELLS[draw(st.sampled_from(sorted(CELLS)))], draw(st.sampled_from(sorted(DTYPES)))
    T, B, D, H, K = (draw(st.integers(1, 4)) for _ in range(5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    readout = draw(st.sampled_from(["none", "linear"]))
    K = K if readout == "linear" else H
    shapes = cell.shapes(D, H) | ({"W_hy": (H, K), "b_y": (K,)} if readout == "linear" else {})
    initial = draw(st.booleans())
    kind = draw(st.sampled_from(["cotangent", "finals", "squared_error", "classes", "probabilities"]))
    time, batch = draw(st.sampled_from([("sum", "sum"), ("mean", "sum"), ("mean", "mean"), ("tokens", "tokens")]))
    reductions = {"time_reduction": time, "batch_reduction": batch}
    if kind in ("cotangent", "finals"):
        finals = {f"g_{state}_final": any_floats(rng, (B, H), dtype) for state in cell.states if kind == "finals"}
        loss = Loss("cotangent", g=any_floats(rng, (T, B, K), dtype), **finals)
    elif kind == "squared_error":
        scale = draw(st.sampled_from([1.0, 0.5]))
        loss = Loss(kind, target=any_floats(rng, (T, B, K), dtype), scale=scale, **reductions)
    elif kind == "classes":
        loss = Loss("cross_entropy", target=rng.integers(0, K, (T, B)), **reductions)
    else:
        loss = Loss("cross_entropy", target=np.eye(K, dtype=DTYPES[dtype])[rng.integers(0, K, (T, B))], **reductions)
    truncation = draw(
        st.sampled_from(
            [Truncation(), Truncation("window", k=2), Truncation("chunk", k=3), Truncation("periodic", k1=2, k2=5)]
        )
    )
    return Problem(
        cell=cell.name,
        activation=draw(st.sampled_from(cell.activations)) if cell.activations else None,
        readout=readout,
        params={name: any_floats(rng, shape, dtype) for name, shape in shapes.items()},
        x=any_floats(rng, (T, B, D), dtype),
        h0=any_floats(rng, (B, H), dtype) if initial else None,
        c0=any_floats(rng, (B, H), dtype) if initial and "c" in cell.states else None,
        lengths=draw(st.none() | st.just(np.zeros(B, np.int64)) | st.just(rng.integers(0, T + 1, B))),
        loss=loss,
        truncation=truncation,
        dtype=dtype,
    )


def small_problem(**changes: Any) -> Problem:
    """One unit, two steps."""
    one = np.ones((1, 1))
    arguments: dict[str, Any] = {
        "cell": "elman",
        "params": {"W_xh": one, "W_hh": 0.5 * one, "b_h": one[0]},
        "x": np.array([-0.0, 5e-324]).reshape(2, 1, 1),
        "loss": Loss("cotangent", g=np.ones((2, 1, 1))),
        "activation": "tanh",
    }
    return Problem(**arguments | changes)


# ---- what is saved comes back ----------------------------------------------------------------------------------------


@settings(UNHURRIED, max_examples=150)
@given(any_problem(), st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=3))
def test_save_and_load_keep_every_bit(
    tmp_path_factory: pytest.TempPathFactory, problem: Problem, extra: Header
) -> None:
    path = tmp_path_factory.getbasetemp() / "case.safetensors"
    save_problem(problem, path, extra)
    again, travelled = load_case(path)
    assert travelled == extra
    for name in ("cell", "activation", "readout", "dtype", "truncation"):
        assert getattr(again, name) == getattr(problem, name)
    for name in ("kind", "scale", "time_reduction", "batch_reduction"):
        assert getattr(again.loss, name) == getattr(problem.loss, name)
    kept, given_arrays = dict(again.arrays()), dict(problem.arrays())
    assert list(kept) == list(given_arrays)
    for name, array in given_arrays.items():
        assert (kept[name].dtype, kept[name].shape) == (array.dtype, array.shape), name
        assert kept[name].tobytes() == array.tobytes(), name
    assert (again.lengths is None) == (problem.lengths is None)
    assert to_bytes(again, extra) == path.read_bytes()


@settings(UNHURRIED, max_examples=50)
@given(any_problem(), st.randoms())
def test_to_bytes_depends_on_the_problem_alone(problem: Problem, random: Any) -> None:
    names = list(problem.params)
    random.shuffle(names)

    def relaid(array: NDArray[Any]) -> NDArray[Any]:
        """The same entries, every second one of a larger array, last axis first."""
        wide = np.zeros(tuple(2 * n for n in array.shape), array.dtype, order="F")
        view = wide[tuple(slice(None, None, -2) for _ in array.shape)]
        view[...] = array
        return view

    same = Problem(
        cell=problem.cell,
        activation=problem.activation,
        readout=problem.readout,
        params={name: relaid(problem.params[name]) for name in names},
        x=relaid(problem.x),
        h0=problem.h0,
        c0=problem.c0,
        lengths=problem.lengths,
        loss=problem.loss,
        truncation=problem.truncation,
        dtype=problem.dtype,
    )
    assert to_bytes(same) == to_bytes(problem)


def test_to_bytes_is_the_same_in_another_process() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_files; "
        "sys.stdout.buffer.write(test_files.to_bytes(test_files.small_problem(), {'b': 1, 'a': 2}))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, check=True)
    assert run.stdout == to_bytes(small_problem(), {"a": 2, "b": 1})


# ---- what is not a problem file is refused ---------------------------------------------------------------------------


def refusal(tmp_path: Path, content: bytes) -> str:
    """The message for a file of this content, without the path; it is one printable line."""
    path = tmp_path / "case.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        load_problem(path)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 1500
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def parts(problem: Problem | None = None) -> tuple[Header, bytes]:
    """A valid file's header and arrays."""
    content = to_bytes(problem or small_problem())
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def assemble(header: Header | bytes, arrays: bytes) -> bytes:
    """A file of a header and arrays."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + arrays


def with_field(**changes: Any) -> bytes:
    """A file whose problem header has other fields."""
    header, arrays = parts()
    fields = json.loads(header["__metadata__"]["bpttcheck"]) | changes
    header["__metadata__"]["bpttcheck"] = json.dumps(fields)
    return assemble(header, arrays)


def with_metadata(text: str) -> bytes:
    """A file whose metadata is this text."""
    header, arrays = parts()
    header["__metadata__"]["bpttcheck"] = text
    return assemble(header, arrays)


def renamed(old: str, new: str) -> bytes:
    """A file in which an array has another name."""
    header, arrays = parts()
    header[new] = header.pop(old)
    return assemble(header, arrays)


def retyped(dtype: str, size: int) -> bytes:
    """A file whose x has another dtype over the same bytes."""
    header, arrays = parts()
    header["x"] |= {"dtype": dtype, "shape": [16 // size, 1, 1]}
    return assemble(header, arrays)


def with_entry(name: str, value: float, problem: Problem | None = None) -> bytes:
    """A file whose array begins with this float64."""
    header, arrays = parts(problem)
    start = header[name]["data_offsets"][0]
    return assemble(header, arrays[:start] + struct.pack("<d", value) + arrays[start + 8 :])


@pytest.mark.parametrize("share", [0.0, 0.003, 0.007, 0.01, 0.1, 0.3, 0.5, 0.8, 0.95, 0.999])
def test_load_refuses_a_truncated_file(tmp_path: Path, share: float) -> None:
    content = to_bytes(small_problem())
    message = refusal(tmp_path, content[: int(share * len(content))])
    assert message.startswith("truncated or no safetensors file (")


def test_load_refuses_a_file_cut_anywhere(tmp_path: Path) -> None:
    content = to_bytes(small_problem())
    path = tmp_path / "case.safetensors"
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(FileError):
            load_problem(path)


@settings(UNHURRIED, max_examples=300)
@given(st.data())
def test_load_never_crashes_on_damaged_bytes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(to_bytes(small_problem()))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(content)
    message = ""
    try:
        load_problem(path)  # a changed value is another problem
    except FileError as error:
        message = str(error)
    assert message.isprintable()


HOSTILE: list[tuple[str, bytes, str]] = [
    ("empty", b"", "truncated or no safetensors file"),
    (
        "header beyond the file",
        struct.pack("<Q", 2**40) + to_bytes(small_problem())[8:],
        "truncated or no safetensors file",
    ),
    ("header of 2^64-1 bytes", b"\xff" * 8 + to_bytes(small_problem())[8:], "truncated or no safetensors file"),
    ("a PNG", b"\x89PNG\r\n\x1a\n" + bytes(100), "truncated or no safetensors file"),
    ("deep outer nesting", assemble(b"[" * 300_000, b""), "truncated or no safetensors file"),
    ("deep array", with_metadata("[" * 300_000), "its metadata is not JSON"),
    ("deep object", with_metadata('{"extra":' * 300_000), "its metadata is not JSON"),
    ("no JSON", with_metadata("{"), "its metadata is not JSON"),
    ("a number of 5000 digits", with_metadata('{"version": ' + "9" * 5000 + "}"), "its metadata is not JSON"),
    ("null", with_metadata("null"), "not a problem file: its metadata lacks format 'bpttcheck-problem'"),
    ("foreign", safetensors.numpy.save({"weight": np.ones(3)}), "not a problem file: its metadata lacks format"),
    ("another format", with_field(format="onnx"), "not a problem file: its metadata lacks format"),
    ("later version", with_field(version=2), "version 2, expected 1; this bpttcheck cannot read it"),
    ("version of lines", with_field(version="1\n2"), r"version '1\n2', expected 1"),
    ("extra list", with_field(extra=[1]), "its field extra is not an object"),
    ("no loss", with_field(loss=None), "not a valid problem: its header has a wrong or missing field"),
    (
        "loss without kind",
        with_field(loss={"scale": 1}),
        "not a valid problem: its header has a wrong or missing field",
    ),
    (
        "truncation of lines",
        with_field(truncation={"a\nb": 1}),
        "not a valid problem: its header has a wrong or missing",
    ),
    (
        "truncation k",
        with_field(truncation={"kind": "window", "k": "2"}),
        "not a valid problem: truncation.k: got '2', exp",
    ),
    ("cell list", with_field(cell=["elman"]), "not a valid problem: cell: got ['elman'], expected one of elman"),
    ("cell of lines", with_field(cell="el\nman"), r"not a valid problem: cell: got 'el\nman', expected one of"),
    ("dtype object", with_field(dtype={}), "not a valid problem: its header has a wrong or missing field"),
    ("dtype name", with_field(dtype="int8"), "not a valid problem: dtype: got 'int8', expected one of float64"),
    (
        "dtype of the arrays",
        with_field(dtype="float32"),
        "not a valid problem: params.W_xh: dtype float64, expected float32",
    ),
    ("no x", renamed("x", "h0"), "not a valid problem: x: missing"),
    ("unknown array", renamed("params.b_h", "b_h"), "not a valid problem: arrays: got the unknown b_h"),
    (
        "terminal codes",
        renamed("x", "\x1b[31m\n\u202e"),
        r"not a valid problem: arrays: got the unknown \x1b[31m\n\u202e",
    ),
    (
        "parameter of lines",
        renamed("params.b_h", "params.b\nh"),
        r"not a valid problem: params: got W_hh, W_xh, b\nh, exp",
    ),
    ("a long name", renamed("params.b_h", "y" * 100_000), "not a valid problem: arrays: got the unknown yyyyyyy"),
    ("bfloat16 array", retyped("BF16", 2), "holds an array of a dtype that no problem has"),
    ("float8 array", retyped("F8_E4M3", 1), "holds an array of a dtype that no problem has"),
    ("complex array", retyped("C64", 8), "not a valid problem: x: dtype complex64, expected float64"),
    ("boolean array", retyped("BOOL", 1), "not a valid problem: x: dtype bool, expected float64"),
    ("NaN", with_entry("x", float("nan")), "not a valid problem: x[0, 0, 0]: got nan, expected a finite number"),
    (
        "infinity",
        with_entry("loss.g", float("inf")),
        "not a valid problem: loss.g[0, 0, 0]: got inf, expected a finite",
    ),
    (
        "probability",
        with_entry("loss.target", 1e300, small_problem(loss=Loss("cross_entropy", target=np.ones((2, 1, 1))))),
        "not a valid problem: loss.target[0, 0]: probabilities sum to 1e+300, expected 1",
    ),
]


@pytest.mark.parametrize(("content", "message"), [line[1:] for line in HOSTILE], ids=[line[0] for line in HOSTILE])
def test_load_refuses_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    assert refusal(tmp_path, content).startswith(message)


def test_load_refuses_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="not a file; expected a problem file"):
        load_problem(tmp_path)
    with pytest.raises(FileError, match="No such file or directory; expected a problem file"):
        load_problem(tmp_path / "nothing.safetensors")
    (tmp_path / "case").write_bytes(b"")
    with pytest.raises(FileError, match="Not a directory"):
        load_problem(tmp_path / "case" / "x")


def test_load_refuses_an_oversized_file_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "case.safetensors"
    with path.open("wb") as file:
        file.truncate(files.MAX_BYTES + 1)  # sparse: it takes no room
    with pytest.raises(FileError, match=rf"{files.MAX_BYTES + 1} bytes, expected a problem file of at most"):
        load_problem(path)


def test_load_takes_the_file_that_the_others_are_damaged_copies_of(tmp_path: Path) -> None:
    header, arrays = parts()
    path = tmp_path / "case.safetensors"
    for content in (assemble(header, arrays), assemble(copy.deepcopy(header), arrays), with_field(), retyped("F64", 8)):
        path.write_bytes(content)
        assert load_problem(path).x.tobytes() == small_problem().x.tobytes()
