"""The binding `_bptt_c` under misuse: whatever it is given, it raises one clear line and never crashes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def binding() -> Any:
    """Import the compiled module; skip where it was not built."""
    return pytest.importorskip("implementations._bptt_c", reason="the C kernel is not built")


SIZES = (4, 3, 2, 5, 1)  # T, B, D, H, K
OPTIONS = (0, 0, 0, 0)


def forward_arrays() -> dict[str, Any]:
    """Everything that elman_forward takes at SIZES."""
    shapes = {"h": (4, 3, 5), "W_xh": (2, 5), "W_hh": (5, 5), "b_h": (5,), "x": (4, 3, 2), "h0": (3, 5)}
    return {name: np.zeros(shape) for name, shape in shapes.items()} | {"lengths": np.full(3, 4)}


def read_only(value: Any) -> Any:
    """Return the array, read-only."""
    value.flags.writeable = False
    return value


def unaligned(value: Any) -> Any:
    """Copy an array to where its type is not aligned."""
    return np.frombuffer(b"\0" + value.tobytes(), np.uint8)[1:].view(value.dtype).reshape(value.shape)


MISUSE: list[tuple[str, Callable[[Any], Any], str]] = [
    ("h", read_only, "h is an output but read-only"),
    ("h", lambda a: a[:3], "h holds 360 bytes; want 480"),
    ("h", lambda _: np.zeros((5, 3, 4)).T, "h is not C-contiguous"),
    ("h", lambda a: a.astype("float32"), "mixes float64 and float32"),
    ("x", lambda _: np.zeros((4, 3, 3)), "x holds 288 bytes; want 192"),
    ("x", lambda _: np.zeros((4, 3, 4))[..., ::2], "x is not C-contiguous"),
    ("x", lambda a: a.astype("float32"), "mixes float64 and float32"),
    ("x", lambda a: a.astype(">f8"), "x has format '>d'"),
    ("x", lambda a: a.astype("int64"), "x has format 'l'|x has format 'q'"),
    ("x", lambda a: a.astype("complex128"), "x has format 'Zd'"),
    ("x", lambda _: b"0" * 192, "x has format 'B'"),
    ("x", unaligned, "x is not aligned"),
    ("lengths", lambda a: a.astype("int32"), "lengths has format 'i'"),
    ("lengths", lambda a: a.astype("float64"), "lengths has format 'd'; want native int64"),
    ("lengths", lambda a: a + 1, "a length lies outside 0..T"),
    ("lengths", lambda a: a - 5, "a length lies outside 0..T"),
]


@pytest.mark.parametrize(("name", "change", "message"), MISUSE)
def test_binding_refuses_a_wrong_array(binding: Any, name: str, change: Callable[[Any], Any], message: str) -> None:
    arrays = forward_arrays()
    binding.call("elman_forward", arrays, SIZES, OPTIONS)
    arrays[name] = change(arrays[name])
    with pytest.raises(ValueError, match=message):
        binding.call("elman_forward", arrays, SIZES, OPTIONS)


def test_binding_refuses_missing_overlapping_and_foreign_arrays(binding: Any) -> None:
    arrays = forward_arrays()
    del arrays["W_hh"]
    with pytest.raises(ValueError, match="no array W_hh was given"):
        binding.call("elman_forward", arrays, SIZES, OPTIONS)
    arrays = forward_arrays()
    arrays["W_hh"] = arrays["h"].reshape(-1)[:25]
    with pytest.raises(ValueError, match="h shares memory with W_hh"):
        binding.call("elman_forward", arrays, SIZES, OPTIONS)
    with pytest.raises(TypeError, match="bytes-like object is required"):
        binding.call("elman_forward", forward_arrays() | {"x": None}, SIZES, OPTIONS)
    with pytest.raises(ValueError, match="'elman_sideways' is not known"):
        binding.call("elman_sideways", {}, SIZES, OPTIONS)
    with pytest.raises(ValueError, match="is not known"):
        binding.outputs("elman_sideways")


def test_binding_refuses_wrong_work_memory(binding: Any) -> None:
    want = binding.work("elman_forward", SIZES, 8)
    arrays = forward_arrays()
    arrays["x"] += 1.0
    arrays["W_xh"] += 0.5
    binding.call("elman_forward", arrays, SIZES, OPTIONS)
    own = arrays["h"].copy()
    arrays["work"] = np.full(want, 255, np.uint8)
    arrays["h"][...] = 0
    binding.call("elman_forward", arrays, SIZES, OPTIONS)
    assert own.tobytes() == arrays["h"].tobytes()
    for wrong in (np.zeros(want - 1, np.uint8), read_only(np.zeros(want, np.uint8)), np.zeros(2 * want, np.uint8)[::2]):
        with pytest.raises(ValueError, match=f"work is read-only, not C-contiguous, or shorter than {want} bytes"):
            binding.call("elman_forward", arrays | {"work": wrong}, SIZES, OPTIONS)
    memory = np.zeros(want + 480, np.uint8)
    shared = arrays | {"work": memory[:want], "h": memory[want - 8 :][:480].view(np.float64)}
    with pytest.raises(ValueError, match="h shares memory with work"):
        binding.call("elman_forward", shared, SIZES, OPTIONS)
    with pytest.raises(ValueError, match="too large"):
        binding.work("lstm_forward", (4, 3, 2, 2**40, 1), 8)


def test_binding_refuses_instructions_that_are_not_there(binding: Any) -> None:
    assert binding.instructions()[0] == "plain"
    with pytest.raises(ValueError, match="instruction set 'sse9' is not known"):
        binding.call("elman_forward", forward_arrays(), SIZES, OPTIONS, "sse9")
    for name in {"plain", "avx2", "avx512"} - set(binding.instructions()):
        with pytest.raises(ValueError, match="has no such instruction set"):
            binding.call("elman_forward", forward_arrays(), SIZES, OPTIONS, name)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 3, 2, 5, 1), "size T is 0"),
        ((4, 3, -2, 5, 1), "size D is -2"),
        ((2**62, 3, 2, 5, 1), "too large|holds"),
        ((2**40, 2**40, 2, 2**40, 1), "too large"),
        ((2**80, 3, 2, 5, 1), "does not fit"),
    ],
)
def test_binding_refuses_wrong_sizes(binding: Any, sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        binding.call("elman_forward", forward_arrays(), sizes, OPTIONS)


WRONG_OPTIONS = [(4, 0, 0, 0), (-1, 0, 0, 0), (0, 1, 0, 0), (0, 3, 3, 2), (0, 4, 0, 0), (0, 5, 1, 1)]


@pytest.mark.parametrize("options", WRONG_OPTIONS)
def test_binding_refuses_wrong_options(binding: Any, options: tuple[int, ...]) -> None:
    shapes = {"W_xh": (2, 5), "W_hh": (5, 5), "b_h": (5,), "x": (4, 3, 2), "h0": (3, 5)}
    arrays = forward_arrays() | {f"d{name}": np.zeros(shape) for name, shape in shapes.items()}
    arrays |= {"dh": np.zeros((4, 3, 5)), "dh_final": np.zeros((3, 5))}
    binding.call("elman_backward", arrays, SIZES, OPTIONS)
    with pytest.raises(ValueError, match="want an activation and a truncation of this cell"):
        binding.call("elman_backward", arrays, SIZES, options)
