"""Diagnosis: the tape is the oracle's solution, typical bugs are named, and an unknown one is placed but not named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bptt.cells import CELLS
from bptt.problem import Loss, Problem, gradient_shapes
from bptt.support import Support
from bptt.truncation import Truncation
from conformance.diagnosis import Failure, diagnose
from conformance.diagnosis.family import alike
from conformance.diagnosis.hypothesis import Base
from conformance.diagnosis.mistakes import hypotheses
from conformance.diagnosis.mistakes.path import EDGES
from conformance.diagnosis.tape import GATES, Tape, Twist
from conformance.targets import Target
from oracle.budget import Model
from oracle.truth import find_truth
from tests.loading import in_process

HERE = Path(__file__).parent


def problem(cell: str = "elman", **more) -> Problem:
    """A small problem of a configuration; what is drawn for a diagnosis is of the same."""
    ones = {"cotangent": {"g": np.ones((3, 2, 2))}, "squared_error": {"target": np.ones((3, 2, 2)), "scale": 0.5}}
    ones["cross_entropy"] = {"target": np.zeros((3, 2), np.int64)}
    loss = more.pop("loss", "cotangent")
    finals = {f"g_{s}_final": np.ones((2, 2)) for s in CELLS[cell].states} if more.pop("finals", False) else {}
    reductions = {name: more.pop(name) for name in ("time_reduction", "batch_reduction") if name in more}
    params = {name: np.ones(shape) for name, shape in CELLS[cell].shapes(2, 2).items()}
    if more.pop("readout", "none") == "linear":
        params |= {"W_hy": np.ones((2, 2)), "b_y": np.ones(2)}
        more["readout"] = "linear"
    given = {} if more.pop("h0_none", False) else {f"{s}0": np.ones((2, 2)) for s in CELLS[cell].states}
    more.setdefault("activation", "tanh" if cell == "elman" else None)
    return Problem(cell, params, np.ones((3, 2, 2)), Loss(loss, **ones[loss], **finals, **reductions), **given, **more)


def planted(name: str) -> Target:
    return in_process(f"{HERE / 'mutants' / 'elman.py'}:{name}")


def made(change) -> Target:
    """The plain tape's results in float64, changed."""

    def gradients(seen):
        p = Problem(
            cell=seen.cell, params=seen.params, x=seen.x, h0=seen.h0, c0=seen.c0, lengths=seen.lengths,
            activation=seen.activation, readout=seen.readout, dtype=seen.dtype, loss=Loss(**vars(seen.loss)),
            truncation=Truncation(**vars(seen.truncation)),
        )  # fmt: skip
        return change(p, {key: np.asarray(v, dtype=np.float64) for key, v in Tape(p).results.items()})

    return Target("made", "built-in", Support(), gradients, None, None)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("grouped", [False, True])
def test_the_plain_tape_is_the_oracles_solution(cell, grouped):
    like = problem(cell, finals=True, readout="linear", truncation=Truncation("chunk", k=2), lengths=np.array([3, 0]))
    p = alike(like, (5, 3, 3, 4, 2), 1, Support())
    truth = find_truth(p, Model("float64"))
    for key, value in Tape(p, Twist(grouped=grouped)).results.items():
        if key in ("h", "c", "o"):
            continue
        hi, lo, _ = truth.solution.near(key)
        assert np.abs((value - hi) - lo).max() <= 1e-15 * max(1.0, np.abs(hi).max()), key


CASES = [
    ("recurrent_weight_overwritten", {}, "first-step-only"),
    ("bias_sum_without_equals", {}, "zero"),
    ("recurrent_path_cut", {}, "carry-cut"),
    ("carry_without_transpose", {}, "carry-without-transpose"),
    ("recurrent_weight_uses_current_state", {}, "recurrent-weight-current-state"),
    ("tanh_derivative_with_plus", {}, "slope-h-plus"),
    ("recurrent_weight_read_transposed", {}, "recurrent-transposed"),
    ("initial_state_rows_shifted", {}, "initial-rolled-1"),
    ("masked_steps_update_state", {"finals": True, "lengths": np.array([3, 1])}, "masked-steps-update"),
    ("squared_error_scale_ignored", {"loss": "squared_error", "readout": "linear"}, "scale-ignored"),
    ("logarithm_with_epsilon", {"loss": "cross_entropy", "readout": "linear"}, "log-epsilon-9"),
    ("truncation_ignored", {"truncation": Truncation("window", k=1)}, "truncation-ignored"),
    ("periodic_taken_for_window", {"truncation": Truncation("periodic", k1=1, k2=1)}, "periodic-as-window-k2"),
    ("recurrent_weight_summed_in_float32", {}, "values-float32"),
    ("bias_buffer_not_cleared", {}, "not-cleared"),
    ("dropout_factor_in_the_carry", {}, "carry-scaled"),
]


@pytest.mark.parametrize(("name", "configuration", "named"), CASES, ids=[case[0] for case in CASES])
def test_a_planted_bug_is_named(name, configuration, named):
    p = problem(**configuration)
    found = diagnose(planted(name), Failure(p, p))
    assert found is not None
    assert found.matches[0].hypothesis.id == named, found.sentence


def test_a_gate_order_is_told_with_the_line_to_change():
    def change(_, answer):
        blocks = np.split(answer["dW_h"], 4, axis=-1)
        return answer | {"dW_h": np.concatenate([blocks[k] for k in (0, 2, 1, 3)], axis=-1)}

    p = problem("lstm")
    found = diagnose(made(change), Failure(p, p))
    assert found is not None
    assert found.matches[0].hypothesis.id == "gate-gradients-igfo"
    assert "[0, 2, 1, 3]" in found.matches[0].hypothesis.hint


def test_an_unknown_mistake_is_placed_and_not_named():
    def change(p, answer):
        answer["dW_hh"][1:, 1] *= 1 + np.sin(np.arange(p.H - 1) + p.T)
        return answer

    p = problem()
    found = diagnose(made(change), Failure(p, p))
    assert found is not None
    assert not found.matches
    assert "columns 1" in found.sentence
    assert "right: loss" in found.sentence


def test_what_is_right_is_not_diagnosed():
    p = problem("lstm")
    assert diagnose(made(lambda _, answer: answer), Failure(p, p)) is None


def test_a_target_that_raises_is_not_diagnosed():
    def change(p, _):
        raise RuntimeError(p.T)

    p = problem()
    assert diagnose(made(change), Failure(p, p)) is None


def test_a_diagnosis_is_the_same_twice():
    p = problem(truncation=Truncation("chunk", k=2))
    target = planted("chunks_counted_from_the_end")
    first, second = (diagnose(target, Failure(p, p)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.json() == second.json()


@pytest.mark.parametrize("cell", CELLS)
def test_hypotheses_have_ids_of_their_own_and_are_many(cell):
    ids = [one.id for one in hypotheses(problem(cell, readout="linear"))]
    assert len(set(ids)) == len(ids)
    assert len(ids) >= 80


CONFIGURATIONS = [
    {"readout": "linear", "finals": True, "lengths": np.array([3, 1]), "truncation": Truncation("window", k=2)},
    {"readout": "linear", "loss": "cross_entropy", "h0_none": True, "truncation": Truncation("chunk", k=2)},
    {"loss": "squared_error", "time_reduction": "mean", "batch_reduction": "mean"},
]


@pytest.mark.parametrize("cell", CELLS)
def test_every_prediction_has_the_arrays_and_shapes_of_an_answer(cell):
    for number, configuration in enumerate(CONFIGURATIONS):
        p = alike(problem(cell, **configuration), (3, 2, 3, 2, 3), number, Support())
        base = Base(p, find_truth(p, Model("float64")))
        shapes = gradient_shapes(p)
        for one in hypotheses(p):
            with np.errstate(all="ignore"):
                found = one.predict(base) or {}
            for key, value in found.items():
                assert np.shape(value) == shapes[key], (one.id, key)


@pytest.mark.parametrize("cell", CELLS)
def test_gates_and_edges_are_there_by_their_labels(cell):
    p = problem(cell)
    nodes = {node.label: node for node in Tape(p).steps[0][2]}
    for label in GATES[cell]:
        assert label in nodes or cell == "elman", label
    for label, i in EDGES[cell]:
        assert not nodes[label].inputs[i].constant, (label, i)
