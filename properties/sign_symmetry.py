"""sign-symmetry: flipping the signs of units, inputs and outputs flips the signs of the gradients and nothing else.

Let s, p and q be signs, one a hidden unit, an input and an output; S = diag(s), and so on. For odd phi (tanh, identity)

    W_xh' = P W_xh S    W_hh' = S W_hh S    b_h' = b_h S    x' = x P    h0' = h0 S                        (1)
    W_hy' = S W_hy Q    b_y' = b_y Q                                                                      (2)

has a_t' = a_t S, hence h_t' = phi(a_t S) = h_t S and o_t' = o_t Q: the same network in other signs. With all signs -1,
(1) and (2) leave the matrices alone: without biases, -x and -h0 give -h, the odd symmetry of the tanh network.
A gated cell keeps its sigmoids, which are not odd, by keeping their arguments; the flip goes through what is odd:

    lstm              a_g' = a_g S, c' = c S: then i∘g and f∘c_prev flip with s, and so does h = o∘tanh(c)      (3)
    lstm_1997         the same without f
    lstm_peephole     the same, and p∘c keeps its sign where p' = p S                                     (4)
    gru_*             a_n' = a_n S: then n, (1-z)∘n, z∘h_prev and r∘h_prev flip with s                    (5)

so that S acts on the columns of the block g or n, on the rows of W_h, on p and on the states; the other gates' columns
stay, and P acts on the rows of W_x. Sigmoid and relu units of an elman network have no such flip: their s is 1.
The loss is the same where cotangents and targets are flipped as the outputs are; a cross-entropy has no flipped
outputs, so there q = 1, and s = 1 too where the outputs are the units. So each gradient flips as its array does.
Derivation: ours.
"""

from __future__ import annotations

import numpy as np
from hypothesis.strategies import SearchStrategy

from bptt.problem import Problem, gradient_shapes
from bptt.support import Support
from properties.base import Bench, Case, Judgement, Property
from properties.compare import Part, of_sums
from properties.recipe import Draw, Recipe
from properties.strategies import Array, draw_problem, offered, replace_shape
from properties.units import Indices, axes, each_array, plain_name, signs_of

ODD_BLOCK = {"lstm": 2, "lstm_peephole": 2, "lstm_1997": 1, "gru_reset_after": 2, "gru_reset_before": 2, "elman": 0}
"""The block of columns whose argument flips: g or n. Of a cell that is not here only inputs and outputs are flipped."""
ODD = ("tanh", "identity")
SIDES = ("inputs", "units", "outputs")


class SignSymmetry(Property):
    """Any flip but none; all signs at once is the odd symmetry."""

    id = "sign-symmetry"
    statement = (
        "Flipping the sign of units, inputs and outputs flips the gradients' signs alike: "
        "without biases a tanh network is odd."
    )
    source = "tanh is odd; (1) to (5) are ours."

    def cases(self, support: Support, cell: str, dtype: str) -> SearchStrategy[Case]:
        shape = replace_shape(offered(support, cell), largest=(8, 3, 4, 4, 4), edges=False, calm=True)

        def build(draw: Draw) -> Case:
            problem = draw_problem(draw, shape, support, cell, dtype)
            everything = draw.flag(4)
            flips = {}
            for side, n in zip(SIDES, (problem.D, problem.H, problem.K), strict=True):
                bits = draw.integer(0, (1 << n) - 1)
                flips[side] = (1 << n) - 1 if everything else bits
            if not any((signs < 0).any() for signs in signs_for(problem, flips).values()):
                flips["inputs" if not free(problem)["units"] else "units"] = 1
            return Case(problem, flips)

        return Recipe(build)

    def check(self, case: Case, bench: Bench) -> Judgement:
        problem = case.problem
        signs, odd, known = signs_for(problem, case.parameters), ODD_BLOCK.get(problem.cell, 0), axes(problem)

        def flipped(name: str, array: Array) -> Array:
            if array.dtype.kind != "f" or (name == "target" and problem.loss.kind == "cross_entropy"):
                return array
            return np.asarray(array * signs_of(array.shape, known[name], signs, odd).astype(array.dtype))

        shapes = gradient_shapes(problem)
        flips = {key: signs_of(s, known[plain_name(key, problem)], signs, odd) for key, s in shapes.items()}
        other = each_array(problem, flipped)
        return of_sums(bench, [Part(+1, problem), Part(-1, other, signs=flips)], list(shapes))


def free(problem: Problem) -> dict[str, bool]:
    """Which signs a problem leaves free: those of inputs always."""
    classes = problem.loss.kind == "cross_entropy"
    units = problem.cell in ODD_BLOCK and problem.activation in (*ODD, None)
    return {
        "inputs": True,
        "units": units and not (classes and problem.readout == "none"),
        "outputs": problem.readout == "linear" and not classes,
    }


def signs_for(problem: Problem, parameters: dict[str, int]) -> dict[str, Indices]:
    """The signs of inputs, units and outputs: bit j of a number flips the j-th; 1 where a sign is not free."""
    sizes, out = {"inputs": problem.D, "units": problem.H, "outputs": problem.K}, {}
    for side, is_free in free(problem).items():
        bits = parameters[side] if is_free else 0
        out[side] = np.array([-1 if bits >> j & 1 else 1 for j in range(sizes[side])], dtype=np.int64)
    return out


PROPERTY = SignSymmetry()
