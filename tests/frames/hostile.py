"""Streams for workers that nobody should be able to harm: random bytes, and requests with something changed in them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from bptt.problem import Loss, Problem
from bptt.truncation import Truncation
from conformance.workers import request_for
from implementations import worker

START = worker.encode({"type": "start", "seq": 1, "version": 1, "target": None}, {})
VALUES = [
    None, True, -1, 0, 1, 2, 3, 8, 2**30, 2**30 + 1, 2**31, 2**63, 10**30, 0.5, 1e308, "", "x", "mean", "tokens",
    "relu", "I64", "F16", [], {}, [1], [1, 1, 1], [0, 0], [0, 8], [2**30, 2**30], [2**15] * 4, {"k": 1}, "\ud83d\ude00",
    "é",
]  # fmt: skip
"""What a value of a header is replaced by."""


def problem(readout: str = "none", dtype: str = "float64", kind: str = "cotangent", **more: Any) -> Problem:
    """A small problem of the Elman cell: T = 3, B = 2, D = 2, H = 3, K = 2."""
    rng = np.random.default_rng(5)

    def draw(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(dtype)

    params = {"W_xh": draw(2, 3), "W_hh": draw(3, 3), "b_h": draw(3)}
    if readout == "linear":
        params |= {"W_hy": draw(3, 2), "b_y": draw(2)}
    o = (3, 2, 2 if readout == "linear" else 3)
    loss = {"g": draw(*o), "g_h_final": draw(2, 3)} if kind == "cotangent" else {"target": draw(*o), "scale": 0.5}
    if kind == "squared_error":
        loss |= {"time_reduction": "mean", "batch_reduction": "sum"}
    fields: dict[str, Any] = {"activation": "tanh", "h0": draw(2, 3), "readout": readout, "dtype": dtype} | more
    return Problem("elman", params, draw(3, 2, 2), Loss(kind, **loss), **fields)


def requests() -> list[bytes]:
    """Frames that a worker answers."""
    lengths = np.array([2, 0])
    problems = [
        problem(),
        problem(activation="relu", lengths=lengths, truncation=Truncation("window", k=2)),
        problem("linear", "float32", "squared_error", truncation=Truncation("chunk", k=2)),
        problem("linear", kind="squared_error", lengths=lengths, truncation=Truncation("periodic", k1=1, k2=2)),
    ]
    frames = []
    for one in problems:
        message, arrays, _ = request_for(one)
        frames.append(worker.encode({**message, "seq": 2}, arrays))
    return [*frames, START, worker.encode({"type": "release", "seq": 3}, {})]


def random_streams(rng: np.random.Generator, count: int) -> Iterator[bytes]:
    """Random bytes: as they are, behind a right length, and behind a right length of a header that looks like JSON."""
    letters = np.frombuffer(b'{}[]",:\\u0123456789.eE+- truefalsn_mbpck', np.uint8)
    for i in range(count):
        body = rng.bytes(int(rng.integers(0, 200)))
        if i % 3 == 2:
            text = b'{"' + bytes(rng.choice(letters, int(rng.integers(0, 80)))) + b"}"
            body = struct.pack("<Q", len(text)) + text + body
        yield body if i % 3 == 0 else struct.pack("<Q", len(body)) + body


def mutated_streams(rng: np.random.Generator, count: int) -> Iterator[bytes]:
    """Requests with something changed, behind a start, with a request behind them; every fifth has a wrong length."""
    known = requests()
    for i in range(count):
        frame = known[rng.integers(len(known))]
        changed = values_changed(rng, frame) if rng.random() < 0.5 else bytes_changed(rng, frame)
        body = changed if i % 5 == 0 else struct.pack("<Q", max(len(changed) - 8, 0)) + changed[8:]
        yield START + body + known[0]


def bytes_changed(rng: np.random.Generator, frame: bytes) -> bytes:
    """Some bytes replaced, left out, put in, or a number in their place."""
    body = bytearray(frame)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(body))) if body else 0
        kind = rng.integers(5)
        if kind == 0:
            body[at : at + 1] = rng.bytes(1)
        elif kind == 1:
            del body[at : at + int(rng.integers(1, 9))]
        elif kind == 2:
            body[at:at] = rng.bytes(int(rng.integers(1, 9)))
        elif kind == 3:
            body[at : at + 1] = str(rng.integers(1 << 62)).encode()
        else:
            del body[at:]
    return bytes(body)


def values_changed(rng: np.random.Generator, frame: bytes) -> bytes:
    """The same frame with some values of its header, of its message or of its arrays replaced, and their form kept."""
    (size,) = struct.unpack_from("<Q", frame, 8)
    header, data = json.loads(frame[16 : 16 + size]), bytearray(frame[16 + size :])
    message = json.loads(header["__metadata__"]["bpttcheck"])
    for _ in range(rng.integers(1, 3)):
        kind = rng.integers(4)
        if kind == 0:
            replace_value(rng, message)
        elif kind == 1:
            replace_value(rng, header)
        elif kind == 2 and data:
            at = int(rng.integers(len(data)))
            data[at : at + 8] = rng.bytes(min(8, len(data) - at))
        elif kind == 3:
            header.pop(list(header)[rng.integers(len(header))])
            if not header:
                break
    if isinstance(header.get("__metadata__"), dict):
        header["__metadata__"]["bpttcheck"] = json.dumps(message)
    text = json.dumps(header).encode()
    body = struct.pack("<Q", len(text)) + text + bytes(data)
    return struct.pack("<Q", len(body)) + body


def replace_value(rng: np.random.Generator, whole: dict[str, Any]) -> None:
    """Replace one value of an object, however deep it stands."""
    at: Any = whole
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return
        key = keys[rng.integers(len(keys))]
        if not isinstance(at[key], dict | list) or rng.random() < 0.3:
            at[key] = VALUES[rng.integers(len(VALUES))]
            return
        at = at[key]


def streams(seed: int, count: int) -> bytes:
    """So many random streams and so many mutated ones, each behind its length."""
    rng = np.random.default_rng(seed)
    both = [*random_streams(rng, count), *mutated_streams(rng, count)]
    return b"".join(struct.pack("<Q", len(one)) + one for one in both)
