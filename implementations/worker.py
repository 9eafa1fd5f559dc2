"""The worker: serves one adapter over a pipe, under whatever Python (3.9 or later) it needs; imports NumPy alone.

Started as `python worker.py`, it reads frames from standard input and writes frames to standard output; their format is
in docs/protocol.md. Before the adapter is loaded, both are moved out of its reach: what it prints goes to standard
error, and what it reads is empty. `Servant` answers the same requests without a pipe, for --in-process and for tests.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, NamedTuple

import numpy as np

PROTOCOL = 1
MOST = 1 << 30
"""Bytes of a frame at most."""
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8"}
"""What travels: the names of safetensors, and NumPy's."""
WIDTHS = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 4}
LOW = "#low"
"""A long double travels as the nearest float64 and what that leaves, under the key with this at its end."""

Arrays = dict[str, np.ndarray]
Message = dict[str, Any]


class Malformed(Exception):
    """A frame that is none."""


class Broken(Exception):
    """The adapter broke its contract; the text says how."""


# ---- frames ----------------------------------------------------------------------------------------------------------


def encode(message: Message, arrays: Arrays) -> bytes:
    """A frame: the length of what follows, and a safetensors file whose metadata holds the message as JSON."""
    header: dict[str, Any] = {"__metadata__": {"bpttcheck": json.dumps(message)}}
    parts, offset = [], 0
    for name, array in arrays.items():
        code = f"{array.dtype.kind.upper()}{8 * array.dtype.itemsize}"
        data = np.ascontiguousarray(array, dtype=DTYPES[code]).tobytes()
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [offset, offset + len(data)]}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    body = struct.pack("<Q", len(text)) + text + b"".join(parts)
    return struct.pack("<Q", len(body)) + body


def decode(body: bytes) -> tuple[Message, Arrays]:
    """What a frame holds, without its length. Raises: Malformed."""
    try:
        text, data = _parts(body)
        header = json.loads(text.decode())
        message = json.loads(header.pop("__metadata__")["bpttcheck"])
        arrays = {str(name): _array(entry, data) for name, entry in header.items()}
    except (struct.error, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise Malformed(f"it is no safetensors file with a message ({describe(error)})") from error
    if not isinstance(message, dict):
        raise Malformed("its message is no object")
    return message, arrays


def _parts(body: bytes) -> tuple[bytes, memoryview]:
    """The header's text and the data."""
    (size,) = struct.unpack_from("<Q", body)
    if size > len(body) - 8:
        raise Malformed("its header is longer than the frame")
    return body[8 : 8 + size], memoryview(body)[8 + size :]


def _array(entry: Any, data: memoryview) -> np.ndarray:
    start, stop = entry["data_offsets"]
    shape = entry["shape"]
    if not all(isinstance(n, int) and 0 <= n <= MOST for n in [start, stop, *shape]) or len(shape) > 8:
        raise Malformed("a shape or an offset is no size")
    dtype, count = np.dtype(DTYPES[entry["dtype"]]), 1
    for n in shape:
        count *= n
    if not 0 <= start <= stop <= len(data) or stop - start != count * dtype.itemsize:
        raise Malformed("an array does not fill its place")
    if not count:
        return np.zeros(shape, dtype=dtype.newbyteorder("="))
    return np.frombuffer(data[start:stop], dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))


# ---- the problem as an adapter sees it -------------------------------------------------------------------------------


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """A fresh copy of an array (of at least one axis) that lies in memory in a certain way.

    plain, read-only, Fortran-ordered, strided, reversed; batch-first: the first two axes of three are exchanged;
    sliced: the last axis is part of a longer one; broadcast: a stride is 0 where all entries along it are equal.
    Between the entries of a strided or sliced array lies NaN: whoever ignores the strides shows it.

    >>> laid_out(np.arange(4.0), "strided").strides, laid_out(np.arange(4.0), "reversed").strides
    ((16,), (-8,))
    >>> laid_out(np.ones((2, 3)), "sliced").strides, laid_out(np.ones((2, 3)), "broadcast").strides
    ((48, 8), (0, 0))
    """
    if layout == "Fortran-ordered":
        return np.array(array, order="F")
    if layout in ("strided", "sliced"):
        filler, last = np.nan if array.dtype.kind == "f" else 0, array.shape[-1]
        whole = np.full((*array.shape[:-1], 2 * last if layout == "strided" else last + 3), filler, dtype=array.dtype)
        part: np.ndarray = whole[..., ::2] if layout == "strided" else whole[..., :last]
        part[...] = array
        return part
    if layout == "reversed":
        return np.array(array[::-1], order="C")[::-1]
    if layout == "batch-first" and array.ndim == 3:
        return np.array(array.swapaxes(0, 1), order="C").swapaxes(0, 1)
    if layout == "broadcast":
        bits = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
        equal = [bool((bits == bits.take([0], axis)).all()) if array.size else False for axis in range(array.ndim)]
        kept = array[tuple(slice(0, 1) if one else slice(None) for one in equal)]
        return np.broadcast_to(np.array(kept, order="C"), array.shape)
    fresh = np.array(array, order="C")
    fresh.flags.writeable = layout != "read-only"
    return fresh


def lying(arrays: Arrays, layout: str, kept: Arrays) -> Arrays:
    """All arrays of a problem in a layout.

    broadcast         equal arrays are one: initial states that are both zero, for one
    updated in place  where `kept` holds an array of a name and shape, it gets the new values, and is the array
    """
    if layout == "updated in place":
        for name, array in arrays.items():
            if name in kept and (kept[name].shape, kept[name].dtype) == (array.shape, array.dtype):
                kept[name][...] = array
            else:
                kept[name] = np.array(array, order="C")
        return {name: kept[name] for name in arrays}
    fresh = {name: laid_out(array, layout) for name, array in arrays.items()}
    if layout == "broadcast":
        first: dict[Any, np.ndarray] = {}
        for name, array in arrays.items():
            fresh[name] = first.setdefault((array.dtype, array.shape, array.tobytes()), fresh[name])
    return fresh


def as_seen(header: Message, arrays: Arrays, layout: str = "plain", kept: Arrays | None = None) -> SimpleNamespace:
    """A problem as an adapter sees it, from its names and arrays: strings, numbers and fresh arrays of its own.

    kept  the arrays of earlier problems, by name, for the layout that writes over them
    """
    fresh = lying(arrays, layout, {} if kept is None else kept)
    loss = dict(header["loss"])
    for name in ("g", "g_h_final", "g_c_final", "target"):
        loss[name] = fresh.get("loss." + name)
    return SimpleNamespace(
        cell=header["cell"],
        activation=header["activation"],
        readout=header["readout"],
        params={name[7:]: array for name, array in fresh.items() if name.startswith("params.")},
        loss=SimpleNamespace(**loss),
        truncation=SimpleNamespace(**header["truncation"]),
        dtype=header["dtype"],
        **{name: fresh.get(name) for name in ("x", "h0", "c0", "lengths")},
    )


def _holder(seen: SimpleNamespace, name: str) -> Any:
    """What now stands where the array of a dotted name was."""
    at: Any = seen
    for part in name.split("."):
        at = at.get(part) if isinstance(at, dict) else getattr(at, part, None)
    return at


def check_untouched(arrays: Arrays, seen: SimpleNamespace) -> None:
    """Raises: Broken if the adapter changed an array that it was given."""
    for name, array in arrays.items():
        now = _holder(seen, name)
        if not isinstance(now, np.ndarray) or now.shape != array.shape or now.dtype != array.dtype:
            raise Broken(f"{name}: the target replaced its input; expected it untouched")
        if now.tobytes() != array.tobytes():
            at = np.argwhere(np.atleast_1d(now != array))
            where = "[" + ",".join(str(int(i)) for i in at[0]) + "]" if len(at) else ""
            raise Broken(f"{name}{where}: the target changed its input; expected it untouched")


# ---- the answer ------------------------------------------------------------------------------------------------------


def read_array(key: str, value: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A claimed value as an array, in the native byte order. Raises: Broken, saying what was got and what is wanted."""
    if isinstance(value, np.ma.MaskedArray):
        raise Broken(f"{key}: got a masked array, want a plain one")
    try:
        array = np.asarray(value)
    except BaseException as error:  # a foreign array type may raise anything, SystemExit too
        if isinstance(error, KeyboardInterrupt):
            raise
        raise Broken(f"{key}: numpy.asarray cannot read it ({describe(error)})") from error
    want = "float32" if dtype == "bfloat16" else dtype
    if array.dtype.kind != "f":
        raise Broken(f"{key}: got dtype {array.dtype}, want {want} or a wider real floating dtype")
    if array.dtype.itemsize < WIDTHS[dtype]:
        raise Broken(f"{key}: got dtype {array.dtype}, want {want} or wider for a {dtype} problem")
    if array.shape != tuple(shape):
        raise Broken(f"{key}: got shape {array.shape}, want {tuple(shape)}")
    return np.array(array, dtype=array.dtype.newbyteorder("="))


def read_answer(answer: Any, shapes: dict[str, tuple[int, ...]], dtype: str) -> tuple[Arrays, list[str]]:
    """The claimed arrays, in the order of `shapes`, and the names of extra keys. Raises: Broken."""
    if not isinstance(answer, dict) and not (hasattr(answer, "keys") and hasattr(answer, "__getitem__")):
        raise Broken(f"answer: got {type(answer).__name__}, want a dict of arrays (loss, h, dW_hh, ...)")
    claimed, extra = {}, []
    for key in list(answer.keys()):
        if key not in shapes:
            extra.append(str(key)[:80])
        elif answer[key] is not None:
            claimed[key] = read_array(key, answer[key], shapes[key], dtype)
    return {key: claimed[key] for key in shapes if key in claimed}, sorted(extra)


def read_anything(answer: Any) -> tuple[Arrays, list[str]]:
    """Every value that is an array of real numbers, whatever its shape, and the names of the others. Raises: Broken."""
    if not hasattr(answer, "keys"):
        raise Broken(f"answer: got {type(answer).__name__}, want a dict of arrays (loss, h, dW_hh, ...)")
    found: Arrays = {}
    rest = []
    for key in list(answer.keys()):
        array = np.asarray(answer[key])
        if not isinstance(key, str) or array.dtype.kind not in "fiu" or array.size > MOST // 64:
            rest.append(str(key)[:80])
        elif array.dtype.kind == "f":
            found[key] = np.array(array, dtype=array.dtype.newbyteorder("="))
        else:
            found[key] = array.astype(np.int64)
    return found, rest


class Held(NamedTuple):
    """One answer that is still held: what was read, the inputs and their copies, and what was returned."""

    answer: Arrays
    arrays: Arrays
    seen: SimpleNamespace
    raw: Any


def check_held(runs: list[Held]) -> None:
    """Look at the results of several calls, all still held.

    Raises: Broken where a result is no longer what it was, or shares memory with another one or an input; but the
    h and o of one answer may be one array, for without a readout that is what o is.
    """
    known: list[tuple[int, str, np.ndarray]] = []
    for call, run in enumerate(runs):
        for key, was in run.answer.items():
            now = np.asarray(run.raw[key])
            if np.array(now, dtype=was.dtype).tobytes() != was.tobytes():
                raise Broken(f"{key}: a later call changed what this one had returned; want it left alone")
            known.append((call, key, now))
        inputs = [(name.split(".")[-1], _holder(run.seen, name)) for name in run.arrays]
        known += [(call, f"the input {name}", array) for name, array in inputs if isinstance(array, np.ndarray)]
    for i, (call, name, array) in enumerate(known):
        for earlier, other, second in known[:i]:
            if call == earlier and {name, other} == {"h", "o"}:
                continue
            if (name in runs[0].answer or other in runs[0].answer) and _shared(array, second):
                whose = "that of another call" if other == name else other
                raise Broken(f"{name}: shares memory with {whose}; want an array of its own")
    for run in runs:
        check_untouched(run.arrays, run.seen)


def _shared(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have a byte in common; where that is too hard to say, not."""
    work: Any = 1 << 16
    too_hard = getattr(np, "exceptions", np).TooHardError
    try:
        return bool(np.may_share_memory(a, b) and np.shares_memory(a, b, max_work=work))
    except too_hard:
        return False


def describe(error: BaseException) -> str:
    """An exception in one line of at most 500 characters: its type and the first line of its message."""
    try:
        text = str(error)[:2000].encode("utf-8", "backslashreplace").decode("utf-8")
        first = text.strip().splitlines()[:1]
    except BaseException as trouble:  # what comes from a target may raise anything while it is printed
        if isinstance(trouble, KeyboardInterrupt):
            raise
        first = ["(its message cannot be printed)"]
    name = type(error).__name__
    return f"{name}: {first[0]}"[:500] if first else name


# ---- loading an adapter ----------------------------------------------------------------------------------------------


class NotLoaded(Exception):
    """What was asked for cannot be loaded: `kind` is usage or unavailable."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Loaded(NamedTuple):
    """An adapter's function, what it declares, and the file it stands in."""

    call: Callable[[Any], Any]
    supports: Any
    file: str | None


def load(kind: str, place: str, function: str, folders: list[str], home: Path | None = None) -> Loaded:
    """Load an adapter anew. Raises: NotLoaded.

    built-in  place is a name of implementations.registry
    path      place is a file, executed each time it is asked for
    module    place is the dotted name of a module
    folders   are last on sys.path meanwhile, so that they shadow nothing
    home      what a file's path is relative to, wherever an adapter went since (default: the working directory)
    """
    added = [folder for folder in folders if folder not in sys.path]
    sys.path += added
    try:
        if kind == "built-in":
            module = _built_in(place)
        elif kind == "path":
            module = _from_file(place, home or Path.cwd())
        else:
            module = _from_module(place)
    finally:
        for folder in added:
            if folder in sys.path:
                sys.path.remove(folder)
    return _read(module, function)


def _built_in(name: str) -> Any:
    registry = importlib.import_module("implementations.registry")
    try:
        return registry.load(name)
    except registry.Unavailable as error:
        raise NotLoaded("unavailable", str(error)) from error


def _from_file(place: str, home: Path) -> Any:
    path = Path(place)
    file = (home / path).resolve()
    if not file.is_file():
        raise NotLoaded("usage", f"there is no file {path}; expected an adapter, path/to/adapter.py[:function]")
    name = "bpttcheck_target_" + hashlib.sha256(str(file).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise NotLoaded("usage", f"{path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.append(str(file.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # an adapter may raise anything, SystemExit too
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise NotLoaded("usage", f"loading {path} raised {describe(error)}; expected it to import") from error
    finally:
        if str(file.parent) in sys.path:
            sys.path.remove(str(file.parent))
    return module


def _from_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise NotLoaded("usage", f"there is no module {error.name}; expected package.module[:function]") from error
        raise NotLoaded("usage", f"importing {name} raised {describe(error)}; expected it to import") from error
    except BaseException as error:  # an adapter may raise anything, SystemExit too
        if isinstance(error, KeyboardInterrupt):
            raise
        raise NotLoaded("usage", f"importing {name} raised {describe(error)}; expected it to import") from error


def _read(module: Any, function: str) -> Loaded:
    try:
        call = getattr(module, function, None)
        supports = getattr(call, "SUPPORTS", getattr(module, "SUPPORTS", None))
    except BaseException as error:  # a module may be anything
        if isinstance(error, KeyboardInterrupt):
            raise
        raise NotLoaded("usage", f"reading it raised {describe(error)}; expected an adapter") from error
    if call is None or not callable(call):
        offered = [
            n for n, v in vars(module).items() if callable(v) and not n.startswith("_") and not isinstance(v, type)
        ]
        there = f"; it has {', '.join(sorted(offered)[:8])}" if offered else ""
        raise NotLoaded(
            "usage", f"no function {function!r} in it, so it is no adapter; expected gradients(problem){there}"
        )
    return Loaded(call, supports, getattr(module, "__file__", None))


# ---- serving ---------------------------------------------------------------------------------------------------------


class Servant:
    """Answers requests for one adapter: a message and arrays in, a message and arrays out."""

    def __init__(self, adapter: Loaded | None = None) -> None:
        self.adapter = adapter
        self.held: list[Held] = []
        self.kept: Arrays = {}
        self.before = compiled()
        self.home = Path.cwd()

    def answer(self, request: Message, arrays: Arrays) -> tuple[Message, Arrays]:
        """What is answered to a request; nothing that an adapter does is raised. Raises: Malformed."""
        kind, seq = request.get("type"), request.get("seq")
        if kind == "start":
            reply, out = self._start(request), Arrays()
        elif kind == "gradients":
            reply, out = self._gradients(request, arrays)
        elif kind == "release":
            reply, out = self._release(), {}
        elif kind == "compiled":
            reply, out = {"type": "compiled", "files": sorted(compiled() - self.before)}, {}
        else:
            raise Malformed(f"a request of type {kind!r}; expected start, gradients, release, compiled or stop")
        return {**reply, "seq": seq}, out

    def _start(self, request: Message) -> Message:
        self.held, self.kept = [], {}
        try:
            target = request["target"]
            kind, place, function = target["kind"], target["place"], target["function"]
            folders = list(target["folders"])
        except (KeyError, TypeError) as error:
            raise Malformed(f"a start without its target ({describe(error)})") from error
        try:
            self.adapter = load(kind, place, function, folders, self.home)
            supports = plain(self.adapter.supports)
        except NotLoaded as error:
            return {"type": "failed", "kind": error.kind, "reason": str(error)}
        except BaseException as error:  # SUPPORTS may be anything
            if isinstance(error, KeyboardInterrupt):
                raise
            return {
                "type": "failed",
                "kind": "usage",
                "reason": f"reading it raised {describe(error)}; expected an adapter",
            }
        file = self.adapter.file
        return {
            "type": "started",
            "version": PROTOCOL,
            "supports": supports,
            "file": None if file is None else str(Path(str(file)).resolve()),
            "python": "{}.{}.{}".format(*sys.version_info[:3]),
            "numpy": np.__version__,
        }

    def _gradients(self, request: Message, arrays: Arrays) -> tuple[Message, Arrays]:
        if self.adapter is None:
            raise Malformed("gradients before start")
        try:
            layout = str(request.get("layout", "plain"))
            shapes = request["shapes"]  # None: whatever it returns
            shapes = shapes and {str(key): tuple(shape) for key, shape in shapes.items()}
            seen = as_seen(request["problem"], arrays, layout, self.kept)
            for run in self.held:  # what was updated in place is what they hold now
                run.arrays.update({n: now for n, now in arrays.items() if _holder(run.seen, n) is _holder(seen, n)})
            dtype = request["problem"]["dtype"]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise Malformed(f"a problem that lacks something ({describe(error)})") from error
        folder = Path.cwd()
        try:
            with np.errstate(all="ignore"):
                raw = self.adapter.call(seen)
        except NotImplementedError as error:
            return {"type": "unsupported", "reason": describe(error)}, {}
        except BaseException as error:  # a target may raise anything, SystemExit too
            if isinstance(error, KeyboardInterrupt):
                raise
            given = "" if layout == "plain" else f" when its inputs were {layout}; want them taken as they lie"
            return {"type": "error", "reason": f"raised {describe(error)}{given}"}, {}
        finally:
            os.chdir(folder)
        try:
            check_untouched(arrays, seen)
            answer, extra = read_anything(raw) if shapes is None else read_answer(raw, shapes, dtype)
        except Broken as error:
            return {"type": "broken", "reason": str(error)}, {}
        except BaseException as error:  # the dict that it returned may be of a kind of its own
            if isinstance(error, KeyboardInterrupt):
                raise
            return {"type": "broken", "reason": f"answer: reading it raised {describe(error)}, want a dict"}, {}
        if request.get("hold"):
            self.held.append(Held(answer, arrays, seen, raw))
        return {"type": "answer", "extra": extra[:100]}, answer

    def _release(self) -> Message:
        held, self.held, self.kept = self.held, [], {}
        try:
            check_held(held)
        except Broken as error:
            return {"type": "broken", "reason": str(error)}
        return {"type": "released"}


def plain(value: Any) -> Any:
    """SUPPORTS as JSON has it. Raises: TypeError where it holds what JSON has not; a set or tuple becomes a list."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else repr(key)[:80]: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(part) for part in (value if isinstance(value, (list, tuple)) else sorted(value))]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"SUPPORTS holds {type(value).__name__}, expected names, numbers and lists of them")


def on_the_wire(arrays: Arrays) -> Arrays:
    """Answers as they travel: little-endian, a long double as two float64."""
    out: Arrays = {}
    for key, array in arrays.items():
        if array.dtype.itemsize <= 8:
            out[key] = array
            continue
        with np.errstate(all="ignore"):
            out[key] = array.astype(np.float64)
            low = (array - out[key].astype(array.dtype)).astype(np.float64)
        out[key + LOW] = np.where(np.isfinite(low), low, 0.0)
    return out


def off_the_wire(arrays: Arrays) -> Arrays:
    """The arrays that were sent: the reverse of `on_the_wire`."""
    out = {key: array for key, array in arrays.items() if not key.endswith(LOW)}
    for key, low in arrays.items():
        high = out.get(key[: -len(LOW)]) if key.endswith(LOW) else None
        if high is not None and high.shape == low.shape:
            with np.errstate(all="ignore"):
                out[key[: -len(LOW)]] = high.astype(np.longdouble) + low
    return out


def compiled() -> set[str]:
    """The compiled objects in this process: files that are mapped as code, where the system tells."""
    try:
        with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as maps:
            lines = [line.rstrip("\n").split(None, 5) for line in maps]
        return {line[5] for line in lines if len(line) == 6 and "x" in line[1] and line[5].startswith("/")}
    except OSError:
        files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        return {file for file in files if isinstance(file, str) and file.endswith((".so", ".pyd", ".dylib"))}


def take(stream: BinaryIO) -> bytes | None:
    """The next frame's body, or None at the end. Raises: Malformed."""
    head = _exactly(stream, 8)
    if not head:
        return None
    if len(head) < 8:
        raise Malformed("it ends within its length")
    (size,) = struct.unpack("<Q", head)
    if size > MOST:
        raise Malformed(f"it is said to have {size} bytes, expected at most {MOST}")
    body = _exactly(stream, size)
    if len(body) < size:
        raise Malformed("it ends before its length says")
    return body


def _exactly(stream: BinaryIO, size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(min(size, 1 << 20))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def serve(requests: BinaryIO, answers: BinaryIO) -> int:
    """Answer requests until stop or the end of the stream; 2 where a request was malformed."""
    servant = Servant()
    while True:
        try:
            body = take(requests)
            if body is None:
                return 0
            message, arrays = decode(body)
            if message.get("type") == "stop":
                return 0
            reply, out = servant.answer(message, arrays)
        except Malformed as error:
            sys.stderr.write(f"bpttcheck worker: a frame that cannot be read: {error}\n")
            return 2
        answers.write(encode(reply, on_the_wire(out)))
        answers.flush()


def die_with_parent(number: int, parent: int | None = None) -> None:
    """On Linux the kernel sends this process a signal when the one that started it dies, whatever either is doing.

    parent  its process id, where it is known: if it has died by now, the signal comes at once
    """
    if sys.platform != "linux":
        return
    import ctypes

    parent = os.getppid() if parent is None else parent
    ctypes.CDLL(None).prctl(1, number, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def main() -> int:
    """Move the pipes out of reach, and serve."""
    die_with_parent(9)  # SIGKILL
    here = Path(__file__).resolve().parent
    sys.path[:] = [folder for folder in sys.path if Path(folder or ".").resolve() != here]
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return serve(requests, answers)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # whatever threads the adapter has left running
