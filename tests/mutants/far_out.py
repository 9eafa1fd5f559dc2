"""Bugs of the Elman cell that show only where several things meet, or far out; a first certificate had missed them.

Each takes the right answer of `numpy` and spoils an entry of it on its own condition, as a kernel's tail would.
"""

from types import SimpleNamespace

import numpy as np

from implementations import numpy_bptt

SUPPORTS = {**numpy_bptt.SUPPORTS, "cells": ["elman"], "activations": ["tanh"]}


def _spoil(name, condition):
    def gradients(problem):
        answer = numpy_bptt.gradients(problem)
        if condition(problem):
            spoilt = np.array(answer[name])
            spoilt[(-1,) * spoilt.ndim] *= 1.01
            answer[name] = spoilt
        return answer

    return gradients


def _is_ascending(lengths):
    return lengths is not None and len(lengths) > 5 and bool((np.diff(lengths) >= 0).all())


def _has_last_of_many_classes(problem):
    target = getattr(problem.loss, "target", None)
    if problem.loss.kind != "cross_entropy" or target.ndim != 2:
        return False
    K = problem.params["W_hy"].shape[1] if problem.readout == "linear" else problem.params["W_hh"].shape[0]
    return K > 8 and bool((target == K - 1).any())


def _one_ends_inside_a_block(problem):
    cut, lengths = problem.truncation, problem.lengths
    return cut.kind == "periodic" and cut.k1 > 2 and lengths is not None and int((lengths % cut.k1 > 0).sum()) == 1


tiles_meet = _spoil("dW_hh", lambda p: p.x.shape[0] > 16 and p.params["W_hh"].shape[0] > 16)
far_steps = _spoil("dW_hh", lambda p: p.x.shape[0] > 300)
far_units = _spoil("db_h", lambda p: p.params["b_h"].shape[0] > 130)
last_of_many_classes = _spoil("db_h", _has_last_of_many_classes)
rows_in_ascending_order = _spoil("dx", lambda p: _is_ascending(p.lengths))
one_row_ends_inside_a_block = _spoil("dh0", _one_ends_inside_a_block)

full_tiles = _spoil("dW_hh", lambda p: p.params["W_hh"].shape[0] % 16 == 0)
full_tiles_of_many_rows = _spoil("dx", lambda p: p.params["b_h"].shape[0] % 8 == 0 and p.x.shape[1] >= 4)
very_far_steps = _spoil("dW_hh", lambda p: p.x.shape[0] > 500)
long_chunks = _spoil("dh0", lambda p: p.truncation.kind == "chunk" and p.truncation.k > 8)
large_errors_are_clipped = _spoil("db_h", lambda p: p.loss.g is not None and bool(np.abs(p.loss.g).max() > 1e6))

far_inputs_of_many_rows = _spoil("dx", lambda p: p.x.shape[1] > 32 and p.x.shape[2] > 32)
far_classes_of_far_units = _spoil("dW_hy", lambda p: p.readout == "linear" and min(p.params["W_hy"].shape) > 32)
split_sum = _spoil("dW_xh", lambda p: p.x.shape[0] * p.x.shape[1] > 600 and p.x.shape[1] > 1)
full_split_sum = _spoil("dW_xh", lambda p: p.x.shape[0] * p.x.shape[1] % 512 == 0)
very_far_units = _spoil("dW_hh", lambda p: p.params["b_h"].shape[0] > 256)
far_units_of_many_rows = _spoil("db_h", lambda p: p.params["b_h"].shape[0] > 128 and p.x.shape[1] > 2)
far_inputs = _spoil("dW_xh", lambda p: p.x.shape[2] > 256)
far_classes = _spoil("db_y", lambda p: p.readout == "linear" and p.params["b_y"].shape[0] > 256)
far_rows = _spoil("dh0", lambda p: p.x.shape[1] > 256)
reach_is_capped = _spoil("dh0", lambda p: p.truncation.kind == "periodic" and p.truncation.k2 > 4 * p.truncation.k1)
nothing_but_empty_rows = _spoil("dh0", lambda p: p.lengths is not None and p.lengths.max() == 0)

no_start = _spoil("dh0", lambda p: p.h0 is not None and not p.h0.any())


def relu_from_a_threshold_on(problem):
    """The slope of relu is 0 up to 1e-4; told from the states, which are all that a fused kernel keeps."""
    answer = numpy_bptt.gradients(problem)
    if problem.activation == "relu" and ((answer["h"] > 0) & (answer["h"] < 1e-4)).any():
        answer["db_h"] = np.zeros_like(answer["db_h"])
    return answer


relu_from_a_threshold_on.SUPPORTS = {**SUPPORTS, "activations": ["tanh", "relu"]}


def labels_as_they_lie(problem):
    """Class indices read in the order of memory."""
    loss = problem.loss
    if loss.kind == "cross_entropy" and loss.target.ndim == 2:
        labels = loss.target.ravel(order="K").reshape(loss.target.shape)
        problem = SimpleNamespace(**{**vars(problem), "loss": SimpleNamespace(**{**vars(loss), "target": labels})})
    return numpy_bptt.gradients(problem)


def _of_labels(problem):
    return problem.readout == "linear" and problem.loss.kind == "cross_entropy" and problem.loss.target.ndim == 2


def least_probability(problem):
    """Keeps every probability above 1e-30, so that no logarithm is infinite; the gradient uses it too."""
    answer = numpy_bptt.gradients(problem)
    if _of_labels(problem):
        o = np.asarray(answer["o"], dtype=np.float64)
        p = np.exp(o - o.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        more = np.where(p < 1e-30, 1e-30 - p, 0)
        if problem.lengths is not None:
            more *= (np.arange(len(o))[:, None] < problem.lengths)[:, :, None]
        answer["db_y"] = (answer["db_y"] + more.sum(axis=(0, 1))).astype(problem.dtype)
    return answer


def squares_are_expanded(problem):
    """The loss of o^2 - 2 o y + y^2."""
    answer, loss = numpy_bptt.gradients(problem), problem.loss
    plain = problem.lengths is None and loss.time_reduction == loss.batch_reduction == "sum"
    if problem.loss.kind == "squared_error" and plain:
        o, y = answer["o"], loss.target
        answer["loss"] = (loss.scale * (o * o - 2 * o * y + y * y).sum()).astype(problem.dtype)
    return answer


_weights = {}


def weights_of_another_dtype(problem):
    """Keeps 1/(T B) by the sizes alone, in the dtype that asked first."""
    answer, loss = numpy_bptt.gradients(problem), problem.loss
    if loss.kind != "cotangent" and loss.time_reduction == loss.batch_reduction == "mean" and problem.lengths is None:
        T, B, _ = problem.x.shape
        own = np.dtype(problem.dtype).type(1 / (T * B))
        kept = float(_weights.setdefault((T, B), own)) / float(own)
        answer |= {key: value * kept for key, value in answer.items() if key.startswith("d")}
    return answer


def _forgetful(*forgotten):
    """Remembers answers by everything but the fields named."""
    remembered = {}

    def gradients(problem):
        fields = {f"loss.{name}": value for name, value in vars(problem.loss).items()}
        fields |= {name: value for name, value in vars(problem).items() if name not in ("loss", "truncation", "params")}
        fields |= {"truncation": tuple(vars(problem.truncation).values())} | problem.params
        kept = {name: value for name, value in fields.items() if name not in forgotten}
        key = tuple((n, v.tobytes() if isinstance(v, np.ndarray) else v) for n, v in sorted(kept.items()))
        if key not in remembered:
            remembered[key] = numpy_bptt.gradients(problem)
        return {name: np.array(value) for name, value in remembered[key].items()}

    return gradients


FORGETFUL = {
    "truncation_forgotten": _forgetful("truncation"),
    "reductions_forgotten": _forgetful("loss.time_reduction", "loss.batch_reduction"),
    "scale_forgotten": _forgetful("loss.scale"),
    "lengths_forgotten": _forgetful("lengths"),
    "target_forgotten": _forgetful("loss.target"),
    "bias_forgotten": _forgetful("b_y"),
    "start_forgotten": _forgetful("h0"),
}
"""Planted twins of caches whose key leaves something out: only two calls that differ in it alone show them."""
globals().update(FORGETFUL)


def _largest(array):
    return 0.0 if array is None else float(np.abs(array).max(initial=0.0))


far_states_of_a_pure_kernel = _spoil(
    "dW_hh", lambda p: p.readout == "none" and p.loss.kind == "cotangent" and p.params["b_h"].shape[0] > 16
)
far_rows_of_squares = _spoil(
    "db_y", lambda p: p.readout == "linear" and p.loss.kind == "squared_error" and p.x.shape[1] > 16
)
far_steps_of_classes = _spoil("dh0", lambda p: p.loss.kind == "cross_entropy" and p.x.shape[0] > 32)
initial_state_clipped = _spoil("dh0", lambda p: _largest(p.h0) > 100)
recurrent_weights_clipped = _spoil("dW_hh", lambda p: _largest(p.params["W_hh"]) > 100)
readout_weights_clipped = _spoil("dW_hy", lambda p: p.readout == "linear" and _largest(p.params["W_hy"]) > 100)
bias_clipped = _spoil("db_h", lambda p: _largest(p.params["b_h"]) > 100)

mean_of_padded_classes = _spoil(
    "db_y",
    lambda p: (
        p.readout == "linear"
        and p.lengths is not None
        and (p.loss.kind, p.loss.time_reduction, p.loss.batch_reduction) == ("cross_entropy", "mean", "mean")
    ),
)
class_bias_clipped = _spoil(
    "db_y", lambda p: p.loss.kind == "cross_entropy" and p.readout == "linear" and _largest(p.params["b_y"]) > 1000
)

no_start_of_many_units = _spoil("db_h", lambda p: p.h0 is None and p.params["b_h"].shape[0] > 16)
no_final_of_many_rows = _spoil(
    "dh0", lambda p: p.loss.kind == "cotangent" and p.loss.g_h_final is None and p.x.shape[1] > 16
)
empty_rows_of_many_inputs = _spoil(
    "dW_xh", lambda p: p.lengths is not None and (p.lengths == 0).any() and p.x.shape[2] > 16
)


def cell_state_clipped(problem):
    """The cell state of an LSTM is kept within [-50, 50], as some are."""
    answer = numpy_bptt.gradients(problem)
    return answer | {"c": np.clip(answer["c"], -50, 50)}


cell_state_clipped.SUPPORTS = {**numpy_bptt.SUPPORTS, "cells": ["lstm"]}

_plans = {}


def plan_of_another_cell(problem):
    """Keeps by the sizes alone what it had found out of the cell that asked first."""
    answer = numpy_bptt.gradients(problem)
    if _plans.setdefault(problem.x.shape, problem.cell) != problem.cell:
        answer["dx"] = answer["dx"] * 2
    return answer


plan_of_another_cell.SUPPORTS = {**numpy_bptt.SUPPORTS, "cells": ["elman", "gru_reset_before"], "activations": ["tanh"]}


_calls = {"made": 0}


def race_of_many_rows_and_units(problem):
    """One call in ten, of those with more than 32 rows and units, a thread's part of db_h is lost."""
    answer = numpy_bptt.gradients(problem)
    if problem.x.shape[1] > 32 and problem.params["b_h"].shape[0] > 32:
        _calls["made"] += 1
        if _calls["made"] % 10 == 0:
            answer["db_h"] = answer["db_h"] * np.where(np.arange(answer["db_h"].size) < 32, 1, 0.5)
    return answer


def _with(problem, **changed):
    return SimpleNamespace(**{**vars(problem), **changed})


def _cut(problem, k):
    """The problem under a window of k steps."""
    return _with(problem, truncation=SimpleNamespace(kind="window", k=k, k1=None, k2=None))


def full_is_cut_off(problem):
    """Of long sequences only the last hundred steps before each loss are seen."""
    long = problem.truncation.kind == "full" and problem.x.shape[0] > 100
    return numpy_bptt.gradients(_cut(problem, 100) if long else problem)


def truncations_reach_64_steps(problem):
    """A window, a chunk and a periodic truncation are no longer than a buffer of 64 steps."""
    cut = problem.truncation
    if cut.kind == "full":
        return numpy_bptt.gradients(problem)
    shorter = {name: None if k is None else min(k, 64) for name, k in (("k", cut.k), ("k1", cut.k1), ("k2", cut.k2))}
    return numpy_bptt.gradients(_with(problem, truncation=SimpleNamespace(kind=cut.kind, **shorter)))


def lengths_of_128_rows(problem):
    """Row b has the length of row b modulo 128."""
    if problem.lengths is not None:
        problem = _with(problem, lengths=problem.lengths[np.arange(len(problem.lengths)) % 128])
    return numpy_bptt.gradients(problem)


def states_of_zero_have_no_slope(problem):
    """Where a state is exactly 0 it counts as a padded one."""
    answer = numpy_bptt.gradients(problem)
    if problem.lengths is None and not answer["h"].any():
        answer["dx"] = np.zeros_like(answer["dx"])
    return answer


def small_arguments_are_returned(problem):
    """tanh(a) is a below 1e-6."""
    answer = numpy_bptt.gradients(problem)
    h = answer["h"].astype(np.longdouble)
    answer["h"] = np.where(np.abs(h) < 1e-6, np.arctanh(h), h).astype(problem.dtype)
    return answer


def one_class_without_its_maximum(problem):
    """Of one class alone the largest output is not taken off before exp."""
    answer = numpy_bptt.gradients(problem)
    if problem.loss.kind == "cross_entropy" and problem.readout == "linear" and problem.params["b_y"].size == 1:
        with np.errstate(over="ignore"):
            answer["loss"] = answer["loss"] + 0 * np.exp(answer["o"]).max()
    return answer


def probabilities_taken_for_labels(problem):
    """If the first step's probabilities are 0 and 1 alone, each step's largest one is taken for its label."""
    target = problem.loss.target
    if problem.loss.kind == "cross_entropy" and target.ndim == 3 and np.isin(target[0], (0, 1)).all():
        labels = target.argmax(axis=-1)
        problem = _with(problem, loss=_with(problem.loss, target=labels))
    return numpy_bptt.gradients(problem)


def labels_in_16_bits(problem):
    """A label is kept in 16 bits, one of which is its sign."""
    target = problem.loss.target
    if problem.loss.kind == "cross_entropy" and target.ndim == 2:
        problem = _with(problem, loss=_with(problem.loss, target=target.astype(np.int16).astype(np.int64)))
    return numpy_bptt.gradients(problem)


_buffers = {}


def buffers_in_turn(problem):
    """dW_hh lies in one of four buffers, which later calls of the same sizes use again."""
    answer = numpy_bptt.gradients(problem)
    key = (problem.x.shape, answer["dW_hh"].shape, problem.dtype)
    ring = _buffers.setdefault(key, [0, [np.empty_like(answer["dW_hh"]) for _ in range(4)]])
    ring[0] += 1
    buffer = ring[1][ring[0] % 4]
    buffer[...] = answer["dW_hh"]
    return answer | {"dW_hh": buffer}


counted_in_16_bits = _spoil("dx", lambda p: p.x.shape[0] * p.x.shape[1] * p.params["b_h"].shape[0] > 2**15)
mean_in_8_bits = _spoil("dW_xh", lambda p: p.x.shape[0] > 255 and p.loss.time_reduction == "mean")
inputs_past_1024 = _spoil("dW_xh", lambda p: p.x.shape[2] > 1024)
units_past_512 = _spoil("dh0", lambda p: p.params["b_h"].shape[0] > 512)
classes_past_1024 = _spoil("db_y", lambda p: p.readout == "linear" and p.params["b_y"].shape[0] > 1024)
finals_of_far_units = _spoil("dh0", lambda p: p.loss.g_h_final is not None and p.params["b_h"].shape[0] > 64)
no_start_of_far_rows = _spoil("db_h", lambda p: p.h0 is None and p.x.shape[1] > 128)
early_ends_of_long_chunks = _spoil(
    "dh0", lambda p: p.truncation.kind == "chunk" and p.lengths is not None and p.x.shape[0] > 64
)


def _sizes(problem):
    T, B, D = problem.x.shape
    return T, B, D, problem.params["b_h"].shape[0]


def _outputs(problem):
    return problem.params["b_y"].shape[0] if problem.readout == "linear" else 0


def _in_a_corner(rows, columns):
    return min(rows, columns) > 64 and rows % 64 > 0 and columns % 64 > 0


def _is_certain(problem):
    """All probabilities are 0 or 1, in a loss that is a mean."""
    loss = problem.loss
    certain = loss.kind == "cross_entropy" and loss.target.ndim == 3 and loss.target.shape[2] > 1
    return certain and loss.time_reduction != "sum" and bool(np.isin(loss.target, (0, 1)).all())


corner_of_input_tiles = _spoil("dW_xh", lambda p: _in_a_corner(*_sizes(p)[2:]))
corner_of_row_tiles = _spoil("dh0", lambda p: _in_a_corner(_sizes(p)[1], _sizes(p)[3]))
weights_past_2_to_14 = _spoil("dW_xh", lambda p: _sizes(p)[2] * _sizes(p)[3] > 2**14)
far_units_of_two_steps = _spoil("db_h", lambda p: _sizes(p)[3] > 256 and _sizes(p)[0] > 1)
many_classes_of_two_rows = _spoil("db_y", lambda p: _outputs(p) > 512 and p.x[:, :, 0].size > 1)
losses_of_16_steps_wait = _spoil(
    "dh0", lambda p: p.truncation.kind == "periodic" and 16 < p.truncation.k1 < p.x.shape[0]
)
losses_of_32_steps_wait = _spoil(
    "dh0", lambda p: p.truncation.kind == "periodic" and 32 < p.truncation.k1 < p.x.shape[0]
)
inputs_counted_in_16_bits = _spoil("dx", lambda p: p.x.size > 2**16)
blocks_of_256_steps = _spoil("dx", lambda p: _sizes(p)[0] > 256 and _sizes(p)[1] > 1)
bias_of_far_rows = _spoil("db_y", lambda p: _outputs(p) > 0 and _sizes(p)[1] > 64)
states_of_1024_steps = _spoil("dW_hh", lambda p: _sizes(p)[0] > 1024)
certain_probabilities = _spoil("db_h", _is_certain)

persistent_path_of_32_units = _spoil("dh0", lambda p: p.x.shape[0] >= 32 and p.params["b_h"].shape[0] % 32 == 0)
fused_path_of_full_rows_and_units = _spoil(
    "db_h", lambda p: p.x.shape[0] > 3 and p.x.shape[1] % 8 == 0 and p.params["b_h"].shape[0] % 32 == 0
)
far_units_of_three_steps = _spoil("dW_hh", lambda p: p.x.shape[0] > 2 and p.params["b_h"].shape[0] > 128)
early_ends_of_far_units = _spoil(
    "db_h", lambda p: p.params["b_h"].shape[0] > 64 and p.lengths is not None and bool((p.lengths < p.x.shape[0]).any())
)
units_one_short_of_a_vector = _spoil("h", lambda p: p.params["b_h"].shape[0] > 14 and p.params["b_h"].shape[0] % 8 == 7)
early_ends_with_a_chunk = _spoil("db_h", lambda p: _some_end_with_a_chunk(p.x.shape[0], p.truncation, p.lengths))
three_axes_at_once = _spoil("db_h", lambda p: p.x.shape[0] > 64 and p.x.shape[1] > 7 and p.params["b_h"].shape[0] > 31)


def _some_end_with_a_chunk(T, cut, lengths):
    if cut.kind != "chunk" or cut.k < 4 or lengths is None:
        return False
    return bool(((lengths > 0) & (lengths < T) & (lengths % cut.k == 0)).any())


def unlikely_labels(problem):
    """The loss is told as if a label's probability were at least 1e-7."""
    answer, loss = numpy_bptt.gradients(problem), problem.loss
    plain = problem.lengths is None and loss.time_reduction == loss.batch_reduction == "sum"
    if loss.kind == "cross_entropy" and loss.target.ndim == 2 and plain:
        o = np.asarray(answer["o"], dtype=np.float64)
        p = np.exp(o - o.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        p = np.take_along_axis(p, loss.target[:, :, None], axis=-1)
        if (p < 1e-7).any():
            answer["loss"] = np.asarray(-np.log(np.maximum(p, 1e-7)).sum(), dtype=problem.dtype)
    return answer


def tanh_is_1_beyond_15(problem):
    """tanh(a) is the sign of a beyond 15."""
    answer = numpy_bptt.gradients(problem)
    h = answer["h"]
    answer["h"] = np.where(1 - np.abs(h) < 1.9e-13, np.sign(h), h) if problem.dtype == "float64" else h
    return answer


def rows_as_if_packed(problem):
    """Of the input's strides the first and the last are looked at: rows lie D apart."""
    x = problem.x
    T, B, D = x.shape
    if x.strides[2] == x.itemsize and x.strides[0] > 0:
        x = np.lib.stride_tricks.as_strided(x, (T, B, D), (x.strides[0], D * x.itemsize, x.itemsize)).copy()
        problem = _with(problem, x=x)
    return numpy_bptt.gradients(problem)


def strides_of_zero(problem):
    """A stride of 0 is taken to say that the cotangents are packed; only the first of them is read then."""
    g = problem.loss.g
    if g is not None and g.size > 1 and g.strides[0] == g.strides[1] == 0 and g.shape[0] * g.shape[1] > 1:
        packed = np.zeros_like(g)
        packed[0, 0] = g[0, 0]
        problem = _with(problem, loss=_with(problem.loss, g=packed))
    return numpy_bptt.gradients(problem)


def one_buffer_for_one_start(problem):
    """Gradients of initial states are added up in a buffer for each array, of which h0 and c0 may be one."""
    answer = numpy_bptt.gradients(problem)
    if problem.h0 is not None and problem.h0 is problem.c0:
        both = answer["dh0"] + answer["dc0"]
        answer |= {"dh0": both, "dc0": both.copy()}
    return answer


one_buffer_for_one_start.SUPPORTS = {**numpy_bptt.SUPPORTS, "cells": ["lstm"]}

_packed = {}


def weights_of_the_first_call(problem):
    """Keeps a packed W_hh for each array that it has met, and never looks at it again."""
    W_hh = problem.params["W_hh"]
    known = _packed.setdefault(id(W_hh), (W_hh, W_hh.copy()))
    return numpy_bptt.gradients(_with(problem, params={**problem.params, "W_hh": known[1]}))


_recorded = {}


def recorded_after_20_calls(problem):
    """After twenty calls of one configuration the twentieth is played back, with the lengths that it had."""
    if problem.lengths is not None:
        cut, loss = tuple(vars(problem.truncation).values()), problem.loss
        names = (problem.activation, problem.readout, problem.dtype, loss.kind, loss.time_reduction)
        key = (names, loss.batch_reduction, cut, problem.x.shape, problem.params["b_h"].shape, problem.h0 is None)
        seen = _recorded.setdefault(key, [0, None])
        seen[0] += 1
        if seen[0] == 20:
            seen[1] = problem.lengths.copy()
        if seen[0] > 20:
            problem = _with(problem, lengths=seen[1])
    return numpy_bptt.gradients(problem)


_laid_plans = {}


def plan_of_other_lengths(problem):
    """The plan for a batch is kept by its sizes, the sum of its lengths, the first, the last and the longest."""
    if problem.lengths is not None and len(problem.lengths):
        n = problem.lengths
        key = (problem.x.shape[:2], int(n.sum()), int(n[0]), int(n[-1]), int(n.max()))
        problem = _with(problem, lengths=_laid_plans.setdefault(key, n.copy()))
    return numpy_bptt.gradients(problem)


def _combined(kind, cut, reductions, empty):
    """Whether rows end early (`empty`: one of them at once) under one loss, truncation and reduction."""

    def condition(problem):
        loss, lengths = problem.loss, problem.lengths
        if lengths is None or lengths.min() == problem.x.shape[0] or (lengths.min() == 0) != empty:
            return False
        name = loss.kind if loss.kind != "cross_entropy" else ("labels", "probabilities")[loss.target.ndim - 2]
        same = (loss.time_reduction, loss.batch_reduction) == reductions
        return name == kind and problem.truncation.kind == cut and same

    return condition


probabilities_of_periodic_rows = _spoil("dx", _combined("probabilities", "periodic", ("mean", "sum"), False))
labels_of_chunked_empty_rows = _spoil("dW_hh", _combined("labels", "chunk", ("tokens", "tokens"), True))
squares_of_windowed_empty_rows = _spoil("db_h", _combined("squared_error", "window", ("mean", "mean"), True))

lanes_of_thirteen_units = _spoil("dW_hh", lambda p: _sizes(p)[3] % 16 == 13)
lanes_of_eleven_rows = _spoil("db_h", lambda p: _sizes(p)[1] % 16 == 11)
lanes_of_fourteen_inputs = _spoil("dW_xh", lambda p: _sizes(p)[2] > 16 and _sizes(p)[2] % 16 == 14)
lanes_of_six_classes = _spoil("db_y", lambda p: _outputs(p) % 8 == 6)
steps_of_twenty_nine = _spoil("dh0", lambda p: _sizes(p)[0] > 24 and _sizes(p)[0] % 8 == 5)

labels_of_many_inputs = _spoil("dW_xh", lambda p: _sizes(p)[2] > 128 and _of_labels(p))
chunks_of_many_units = _spoil("dW_hh", lambda p: _sizes(p)[3] > 64 and p.truncation.kind == "chunk" and p.h0 is None)
windows_of_many_classes = _spoil("db_y", lambda p: _outputs(p) > 128 and p.truncation.kind == "window")
sigmoid_of_many_rows = _spoil("dx", lambda p: _sizes(p)[1] > 128 and p.activation == "sigmoid")
sigmoid_of_many_rows.SUPPORTS = {**SUPPORTS, "activations": ["tanh", "sigmoid"]}
empty_rows_of_many_steps = _spoil(
    "dh0", lambda p: _sizes(p)[0] > 64 and p.lengths is not None and bool((p.lengths == 0).any())
)
many_steps_of_many_rows = _spoil("dW_hh", lambda p: _sizes(p)[0] > 64 and _sizes(p)[1] > 16)
many_steps_of_many_units = _spoil("dW_hh", lambda p: _sizes(p)[0] > 32 and _sizes(p)[3] > 64)
many_rows_of_many_classes = _spoil("dW_hy", lambda p: _sizes(p)[1] > 128 and _outputs(p) > 128)
all_axes_at_once = _spoil("dW_xh", lambda p: min(*_sizes(p), _outputs(p)) > 16)

full_vectors_of_many_units = _spoil("dW_hh", lambda p: _sizes(p)[0] > 1 and _sizes(p)[3] > 64 and _sizes(p)[3] % 4 == 0)
many_units_of_many_rows = _spoil("db_h", lambda p: _sizes(p)[0] > 1 and min(_sizes(p)[1], _sizes(p)[3]) > 64)
full_tiles_of_many_steps = _spoil("dx", lambda p: _sizes(p)[0] > 64 and _sizes(p)[0] % 8 == 0)

WIDE = (
    "full_vectors_of_many_units",
    "many_units_of_many_rows",
    "full_tiles_of_many_steps",
    "labels_of_many_inputs",
    "chunks_of_many_units",
    "windows_of_many_classes",
    "sigmoid_of_many_rows",
    "empty_rows_of_many_steps",
    "many_steps_of_many_rows",
    "many_steps_of_many_units",
    "many_rows_of_many_classes",
    "all_axes_at_once",
)
"""Bugs of one name or another axis where an axis is beyond a block of threads."""
COMBINED = ("probabilities_of_periodic_rows", "labels_of_chunked_empty_rows", "squares_of_windowed_empty_rows")
"""Bugs of one combination of loss, truncation, reductions and lengths: of the weights of the steps' losses."""
LANES = (
    "lanes_of_thirteen_units",
    "lanes_of_eleven_rows",
    "lanes_of_fourteen_inputs",
    "lanes_of_six_classes",
    "steps_of_twenty_nine",
)
"""Bugs of one remainder: the mask for the last vector of a row is looked up in a table, one entry of which is wrong."""
REACHING = (
    "full_is_cut_off",
    "truncations_reach_64_steps",
    "lengths_of_128_rows",
    "states_of_zero_have_no_slope",
    "small_arguments_are_returned",
    "one_class_without_its_maximum",
    "probabilities_taken_for_labels",
    "labels_in_16_bits",
    "counted_in_16_bits",
    "mean_in_8_bits",
    "inputs_past_1024",
    "units_past_512",
    "classes_past_1024",
    "finals_of_far_units",
    "no_start_of_far_rows",
    "early_ends_of_long_chunks",
)
"""Bugs past the sizes of a fixed buffer or counter, and in arguments of one size; a fourth attack had brought them."""
MEETING = (
    "corner_of_input_tiles",
    "corner_of_row_tiles",
    "weights_past_2_to_14",
    "far_units_of_two_steps",
    "many_classes_of_two_rows",
    "losses_of_16_steps_wait",
    "losses_of_32_steps_wait",
    "inputs_counted_in_16_bits",
    "blocks_of_256_steps",
    "bias_of_far_rows",
    "states_of_1024_steps",
    "certain_probabilities",
    "unlikely_labels",
    "tanh_is_1_beyond_15",
    "persistent_path_of_32_units",
    "fused_path_of_full_rows_and_units",
    "far_units_of_three_steps",
    "early_ends_of_far_units",
    "units_one_short_of_a_vector",
    "early_ends_with_a_chunk",
    "three_axes_at_once",
)
"""Bugs where several sizes are past a tile or a counter together, and of labels; two later attacks had brought them."""
BEYOND = (
    "far_states_of_a_pure_kernel",
    "far_rows_of_squares",
    "far_steps_of_classes",
    "initial_state_clipped",
    "recurrent_weights_clipped",
    "readout_weights_clipped",
    "bias_clipped",
    "mean_of_padded_classes",
    "class_bias_clipped",
    "no_start_of_many_units",
    "no_final_of_many_rows",
    "empty_rows_of_many_inputs",
)
"""Bugs on one path of a loss and a readout, or of one value that is far beyond the others."""
NAMES = (
    "no_start",
    "relu_from_a_threshold_on",
    "far_inputs_of_many_rows",
    "far_classes_of_far_units",
    "split_sum",
    "full_split_sum",
    "very_far_units",
    "far_units_of_many_rows",
    "far_inputs",
    "far_classes",
    "far_rows",
    "reach_is_capped",
    "nothing_but_empty_rows",
    "least_probability",
    "squares_are_expanded",
    "full_tiles",
    "full_tiles_of_many_rows",
    "very_far_steps",
    "long_chunks",
    "large_errors_are_clipped",
    "tiles_meet",
    "far_steps",
    "far_units",
    "last_of_many_classes",
    "rows_in_ascending_order",
    "one_row_ends_inside_a_block",
)
