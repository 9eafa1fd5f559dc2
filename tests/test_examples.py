"""The workers in examples/: certified as they stand, not with a sign flipped, and not to be harmed by any bytes.

BPTTCHECK_FUZZ=10000 raises the number of random and of mutated streams for each of them.
"""

from __future__ import annotations

import os
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bptt.problem import gradient_shapes
from conformance import targets, workers
from conformance.cli import main
from conformance.errors import TargetCrash
from conformance.workers import Limits, Worker, request_for
from implementations import worker
from tests import protocol
from tests.frames import hostile

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
STREAMS = int(os.environ.get("BPTTCHECK_FUZZ", "1000"))
FEW = "exact-problems"
"""What a few seconds are enough for; every property, and more problems: bpttcheck certify, in examples/."""
STRICT = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
SANITIZED = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
NAMES = ["c-worker", "js-worker", "rust-worker"]
SOURCES = dict(zip(NAMES, ("worker.c", "worker.mjs", "worker.rs"), strict=True))
RUSTC = ["--edition", "2021", "-D", "warnings"]  # not optimised: that overflow is checked, and for the time


def compiler() -> str:
    """A C compiler; the test is skipped where there is none."""
    found = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    return found or pytest.skip("no C compiler here")


def node() -> str:
    """Node; the test is skipped where there is none."""
    return shutil.which("node") or pytest.skip("no node here")


def rustc() -> str:
    """A Rust compiler; the test is skipped where there is none."""
    return shutil.which("rustc") or pytest.skip("no rustc here")


def build_rust(program: Path, *more: str, source: Path = EXAMPLES / "worker.rs") -> None:
    """Compile a Rust file with warnings as errors."""
    words = [rustc(), *RUSTC, *more, "-o", str(program), str(source)]
    built = subprocess.run(words, capture_output=True, text=True, check=False, cwd=program.parent)
    assert built.returncode == 0, built.stderr


def build(program: Path, *more: str, source: Path = EXAMPLES / "worker.c") -> None:
    """Compile a C file with warnings as errors."""
    words = [compiler(), *STRICT, *more, f"-I{EXAMPLES}", "-o", str(program), str(source), "-lm"]
    built = subprocess.run(words, capture_output=True, text=True, check=False)
    if "-fsanitize" in built.stderr or "asan" in built.stderr:
        pytest.skip("the compiler has no address and undefined-behaviour sanitizers here")
    assert built.returncode == 0, built.stderr


def folder(tmp_path: Path, name: str, *replaced: str) -> None:
    """A copy of examples/ as its README leaves it, with a text replaced in the worker of that name."""
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    source = tmp_path / SOURCES[name]
    if replaced:
        before, after = replaced
        text = source.read_text(encoding="utf-8")
        assert text.count(before) == 1
        source.write_text(text.replace(before, after), encoding="utf-8")
    if name == "c-worker":
        build(tmp_path / "worker", source=source)
    elif name == "rust-worker":
        build_rust(tmp_path / "rust_worker", source=source)
    else:
        node()


@pytest.fixture
def certify(tmp_path, monkeypatch):
    """Certify a name in the folder of the test: the exit status."""

    def run(name: str, properties: str) -> int:
        words = ["certify", name, "--profile", "smoke", "--select", properties, "--jobs", "1"]
        return main([*words, "--report-dir", str(tmp_path / "reports")])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(targets, "_KNOWN", {})  # another test's worker has the same name
    yield run
    workers.close_all()


@pytest.mark.parametrize("name", NAMES)
def test_example_is_certified_and_keeps_to_the_schema(name, tmp_path, certify, capsys, monkeypatch):
    said = protocol.record(monkeypatch)
    folder(tmp_path, name)
    assert certify(name, FEW) == 0, capsys.readouterr().out
    assert said
    assert all(protocol.fits(answer, "answer") for _, answer in said)


def test_example_in_c_is_certified_under_sanitizers(tmp_path, certify, capsys):
    folder(tmp_path, "c-worker")
    build(tmp_path / "worker", *SANITIZED)
    assert certify("c-worker", "oracle-agreement") == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("c-worker", "carry[i] += W_hh", "carry[i] -= W_hh"),
        ("js-worker", "out[i] += W[i * m + j] * v[j]", "out[i] -= W[i * m + j] * v[j]"),
        ("rust-worker", "*out_i += *W_ij * *v_j", "*out_i = *out_i - *W_ij * *v_j"),
    ],
)
def test_example_with_a_sign_flipped_is_not_certified(name, before, after, tmp_path, certify, capsys):
    folder(tmp_path, name, before, after)
    assert certify(name, FEW) == 1
    assert "not conformant" in capsys.readouterr().out
    (script, *_) = (tmp_path / "reports" / "cases").glob("*.py")
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert ran.returncode == 2  # a script asks functions
    assert "the target is a command" in ran.stdout


# ---- what is no problem, or too large a one --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """The command of a worker by its name."""
    program = tmp_path_factory.mktemp("built") / "worker"
    in_rust = program.with_name("rust_worker")

    def words(name: str) -> list[str]:
        if name == "js-worker":
            return [node(), "--max-old-space-size=64", str(EXAMPLES / "worker.mjs")]
        if name == "rust-worker":
            if not in_rust.exists():
                build_rust(in_rust)
            return [str(in_rust)]
        if not program.exists():
            build(program)
        return [str(program)]

    return words


@pytest.fixture
def started(request, command):
    """A worker of the name that the test is given."""
    start = {"type": "start", "version": 1, "target": None}
    process = Worker(command(request.param), start, Limits(seconds=20))
    yield process
    process.close()


def ask(process: Worker, message, arrays) -> dict:
    """The message of the answer."""
    return process.ask(message, arrays, 1 << 20)[0]


@pytest.mark.parametrize("started", NAMES, indirect=True)
def test_worker_answers_every_key_in_its_shape_and_dtype(started):
    one = hostile.problem("linear", "float32", "squared_error")
    message, arrays, most = request_for(one)
    reply, found = started.ask(message, arrays, most)
    assert reply["type"] == "answer"
    assert {key: array.shape for key, array in found.items()} == gradient_shapes(one)
    assert {array.dtype for array in found.values()} == {np.dtype("float32")}


@pytest.mark.parametrize("started", NAMES, indirect=True)
def test_worker_says_what_it_does_not_support(started):
    message, arrays, _ = request_for(hostile.problem())
    for path, value in {
        ("cell",): "lstm", ("activation",): "softplus", ("readout",): "mlp", ("dtype",): "float16",
        ("loss", "kind"): "cross_entropy", ("loss", "time_reduction"): "median", ("truncation", "kind"): "cec",
    }.items():  # fmt: skip
        problem = {k: dict(v) if isinstance(v, dict) else v for k, v in message["problem"].items()}
        inner = problem[path[0]] if len(path) == 2 else problem
        inner[path[-1]] = value
        reply = ask(started, {**message, "problem": problem}, arrays)
        assert reply["type"] == "unsupported", (path, reply)
        assert reply["reason"]
    assert ask(started, message, arrays)["type"] == "answer"


@pytest.mark.parametrize("started", NAMES, indirect=True)
def test_worker_refuses_arrays_that_do_not_fit_and_goes_on(started):
    message, arrays, _ = request_for(hostile.problem(lengths=np.array([3, 1])))
    for name, array in arrays.items():
        for wrong in (array[:-1], np.concatenate([array, array]), array[None], array.astype(np.float32)):
            reply = ask(started, message, arrays | {name: wrong})
            assert reply["type"] == "error", (name, wrong.shape, reply)
        missing = ask(started, message, {key: value for key, value in arrays.items() if key != name})
        assert missing["type"] == ("answer" if name in ("h0", "lengths", "loss.g_h_final") else "error")
    for bad in ([4, 1], [-1, 1], [1 << 62, 1]):
        reply = ask(started, message, arrays | {"lengths": np.array(bad)})
        assert reply["type"] == "error"
        assert "lengths" in reply["reason"]
    assert ask(started, {"type": "greetings"}, {})["type"] == "error"
    assert ask(started, {"type": "release"}, {})["type"] == "released"
    assert ask(started, message, arrays)["type"] == "answer"


@pytest.mark.parametrize("started", NAMES, indirect=True)
def test_worker_refuses_an_answer_too_large_for_memory(started):
    message, _, _ = request_for(hostile.problem("linear", "float32"))
    shapes = {"x": (1 << 18, 1, 1), "params.W_xh": (1, 4096), "params.W_hh": (4096, 1), "params.b_h": (4096,)}
    shapes |= {"params.W_hy": (4096, 1), "params.b_y": (1,), "loss.g": (1 << 18, 1, 1), "h0": (1, 4096)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    assert ask(started, message, arrays)["type"] == "error"  # W_hh is no square
    arrays["params.W_hh"] = np.zeros((4096, 4096), np.float32)
    reply = ask(started, message, arrays)  # h would have 4 GiB
    assert reply["type"] == "error"
    assert "large" in reply["reason"] or "memory" in reply["reason"]


def limited(size: int):
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))


LIARS = {
    "a length beyond the limit": struct.pack("<Q", (1 << 30) + 1),
    "a length with nothing behind it": struct.pack("<Q", 1 << 30) + bytes(100),
    "an end within a length": b"\1\0\0",
    "a header longer than its frame": struct.pack("<QQ", 16, 1 << 29) + bytes(8),
    "a header of brackets": struct.pack("<QQ", 100_008, 100_000) + b"[" * 100_000,
    "a header of members": struct.pack("<QQ", 100_008, 100_000) + b'{"a":0' + b',"a":0' * 16_665 + b"}   ",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lie", LIARS)
def test_worker_ends_with_a_message_at_a_frame_that_is_none(name, lie, command):
    words = command(name)
    limit = None if name == "js-worker" else limited(32 << 20)  # node reserves more than it uses
    ended = subprocess.run(words, input=LIARS[lie], capture_output=True, timeout=20, check=False, preexec_fn=limit)
    assert ended.returncode == 2
    assert ended.stdout == b""
    assert ended.stderr.startswith(b"worker: a frame that cannot be read: ")


@pytest.mark.parametrize("name", NAMES)
def test_worker_ends_well_at_the_end_and_at_stop(name, command):
    words = command(name)
    stop = worker.encode({"type": "stop", "seq": 4}, {})
    for stream, answers in ((b"", 0), (hostile.START, 1), (stop + hostile.START, 0)):
        ended = subprocess.run(words, input=stream, capture_output=True, timeout=20, check=False)
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert len(frames(ended.stdout)) == answers


# ---- hostile streams -------------------------------------------------------------------------------------------------


def frames(stream: bytes) -> list[tuple[worker.Message, worker.Arrays]]:
    """All frames of a worker's output, each of them read."""
    found, at = [], 0
    while at < len(stream):
        (size,) = struct.unpack_from("<Q", stream, at)
        assert at + 8 + size <= len(stream)
        found.append(worker.decode(stream[at + 8 : at + 8 + size]))
        at += 8 + size
    return found


def drive(words: list[str], tmp_path: Path, **limits) -> list[int]:
    """Serve hostile streams with a program under tests/frames; the numbers that it prints. No stream harms it."""
    hostile_streams, answers = tmp_path / "streams", tmp_path / "answers"
    hostile_streams.write_bytes(hostile.streams(seed=3, count=STREAMS))
    words = [*words, str(hostile_streams), str(answers)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False, **limits)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[-3000:])
    counts = [int(word) for word in done.stdout.split()]
    kinds = [message["type"] for message, _ in frames(answers.read_bytes())]
    assert counts[0] + counts[1] == 2 * STREAMS
    assert set(kinds) == {"started", "answer", "unsupported", "error", "released"}
    assert STREAMS // 4 < counts[1] < 7 * STREAMS // 4
    assert kinds.count("started") >= STREAMS  # each mutated request stands behind a start
    assert kinds.count("error") > STREAMS // 50
    assert kinds.count("answer") > STREAMS // 4
    return counts


def test_hostile_streams_do_not_harm_the_worker_in_c(tmp_path):
    build(tmp_path / "drive", source=HERE / "frames" / "drive_worker.c")
    drive([str(tmp_path / "drive")], tmp_path, preexec_fn=limited(32 << 20))


def test_hostile_streams_show_nothing_to_the_sanitizers(tmp_path):
    build(tmp_path / "drive", *SANITIZED, source=HERE / "frames" / "drive_worker.c")
    drive([str(tmp_path / "drive")], tmp_path)


def test_hostile_streams_do_not_harm_the_worker_in_javascript(tmp_path):
    words = [node(), "--max-old-space-size=64", str(HERE / "frames" / "drive_worker.mjs"), str(EXAMPLES / "worker.mjs")]
    node_itself = 192 << 10
    # KiB that were resident: no more than one frame may have, whose zeros now and then are written and not mapped
    assert drive(words, tmp_path)[2] < (worker.MOST >> 10) + node_itself


def test_hostile_streams_do_not_harm_the_worker_in_rust(tmp_path):
    build_rust(tmp_path / "drive", source=HERE / "frames" / "drive_worker.rs")
    drive([str(tmp_path / "drive")], tmp_path, preexec_fn=limited(64 << 20))


@pytest.mark.parametrize("name", NAMES)
def test_hostile_streams_end_a_process_with_a_status(name, command):
    words = command(name)
    rng = np.random.default_rng(4)
    count = 6 if name == "js-worker" else 40
    for stream in [*hostile.random_streams(rng, count), *hostile.mutated_streams(rng, count)]:
        ended = subprocess.run(words, input=stream, capture_output=True, timeout=20, check=False)
        assert ended.returncode in (0, 2), ended.stderr
        frames(ended.stdout)


@pytest.mark.parametrize("started", NAMES, indirect=True)
def test_worker_that_was_sent_nonsense_is_a_crash_to_the_suite(started):
    message, arrays, most = request_for(hostile.problem())
    started.started()
    started._process.stdin.write(b"\xff" * 8)
    with pytest.raises(TargetCrash, match="ended its process with status 2"):
        started.ask(message, arrays, most)
    assert "a frame that cannot be read" in started.stderr
