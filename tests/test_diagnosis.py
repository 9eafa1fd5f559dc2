"""Diagnosis: the tape is the oracle's solution, typical bugs are named, and an unknown one is placed but not named."""

from __future__ import annotations

import warnings
from dataclasses import replace
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
from conformance.diagnosis.match import _digits
from conformance.diagnosis.mistakes import hypotheses
from conformance.diagnosis.mistakes.path import EDGES
from conformance.diagnosis.tape import GATES, Tape, Twist
from conformance.targets import Target
from oracle.budget import Model
from oracle.truth import find_truth
from properties.generic import generic
from properties.long_range import REACH, remembering
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


def planted(name: str, table: str = "elman") -> Target:
    return in_process(f"{HERE / 'mutants' / table}.py:{name}")


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
    ("third_row_lost", {}, "last-of-3-rows-lost"),
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


SHORT, EMPTY = {"lengths": np.array([3, 1])}, {"lengths": np.array([3, 0])}
CHUNK, WINDOW = {"truncation": Truncation("chunk", k=2)}, {"truncation": Truncation("window", k=2)}
PERIODIC, CEC = {"truncation": Truncation("periodic", k1=1, k2=2)}, {"truncation": Truncation("cec")}
LINEAR, SQUARED = {"readout": "linear"}, {"readout": "linear", "loss": "squared_error"}
BLIND = [
    ("lstm_forget_gate_meets_new_cell", "lstm", {}, "factor-mul0-0-c_t"),
    ("lstm_1997_cell_gradient_forgets", "lstm_1997", {}, "factor-add0-0-1 − i"),
    ("gru_carry_not_reset", "gru_reset_after", {}, "carry-not-reset"),
    ("gru_candidate_not_transposed", "gru_reset_before", {}, "carry-without-transpose-n"),
    ("gru_candidate_gradient_transposed", "gru_reset_after", {}, "block-n-transposed"),
    ("peephole_of_output_carried_to_previous_cell", "lstm_peephole", {}, "peephole-o-to-old-cell"),
    ("peephole_of_output_meets_previous_cell", "lstm_peephole", {}, "dp_o-with-c_{t-1}"),
    ("slope_at_previous_state", "elman", {}, "slope-of-state-before"),
    ("chunk_tail_joined_to_the_block_before", "elman", CHUNK, "chunks-tail-joined"),
    ("boundary_loss_in_both_chunks", "elman", CHUNK, "chunks-overlapping"),
    ("chunk_leaves_cell_state_attached", "lstm", CHUNK, "chunks-h-detached-alone"),
    ("final_cotangent_in_last_chunk_only", "elman", CHUNK | SHORT | {"finals": True}, "finals-in-last-chunk-only"),
    ("final_cotangent_window_from_T", "elman", WINDOW | SHORT | {"finals": True}, "finals-window-from-T"),
    ("periodic_end_ignores_row_length", "elman", PERIODIC | SHORT, "periodic-end-of-T"),
    ("readout_truncated_too", "elman", WINDOW | LINEAR, "readout-last-steps"),
    ("cec_output_gate_not_cut", "lstm_1997", CEC, "cec-not-cut-o"),
    (
        "mean_divides_by_index_of_last_step",
        "elman",
        SQUARED | SHORT | {"time_reduction": "mean"},
        "divisor-length-less-one",
    ),
    ("batch_mean_skips_empty_rows", "elman", SQUARED | EMPTY | {"batch_reduction": "mean"}, "divisor-B-without-empty"),
    ("initial_gradient_left_sorted", "elman", SHORT, "rows-descending"),
    ("initial_gradient_summed_over_batch", "elman", {}, "batch-summed"),
    ("initial_cell_gradient_before_forget_gate", "lstm", {}, "dc0-before-last-factor"),
    ("final_cell_cotangent_added_to_h", "lstm", {"finals": True}, "final-c-added-to-h"),
    ("third_row_of_a_remainder_lost", "elman", {}, "rows-in-tiles-of-4-rest-3"),
    ("sixteen_saved_states", "elman", {}, "ring-16"),
    ("units_beyond_the_tile_lost", "elman", {}, "carry-tile-32"),
    ("sigmoid_with_epsilon", "gru_reset_after", {}, "sigmoid-epsilon-1e-9"),
    ("tanh_by_continued_fraction", "elman", {}, "tanh-convergent-7"),
    ("initial_state_in_single", "elman", {}, "initial-h-float32"),
    ("weights_accumulated_in_single", "elman", {}, "about-float32"),
    ("weight_decay_left_on", "elman", {}, "weight-decay"),
    ("input_weights_cached_by_shape", "elman", {}, "cached-first-W_xh-back"),
]


@pytest.mark.parametrize(("name", "cell", "configuration", "named"), BLIND[::4], ids=[case[0] for case in BLIND[::4]])
def test_a_bug_of_the_blind_table_is_named(name, cell, configuration, named):
    """One in four: tests/deep/test_diagnosis.py takes all."""
    p = problem(cell, **configuration)
    found = diagnose(planted(name, "blind"), Failure(p, p))
    assert found is not None
    assert found.matches[0].hypothesis.id == named, found.sentence


@pytest.mark.parametrize(
    ("limit", "named"), [(0.5, True), (10, True), (100, True), (1000, True), (37, False), (700, False)]
)
def test_a_limit_is_named_at_its_own_size_or_not_at_all(limit, named):
    def clipped(p, right):
        loss = replace(p.loss, g=np.clip(p.loss.g, -limit, limit))
        found = Tape(replace(p, loss=loss)).results
        return right | {key: np.asarray(found[key], dtype=np.float64) for key in right if key.startswith("d")}

    p = problem()
    loud = replace(p, loss=replace(p.loss, g=2.0**100 * p.loss.g))
    found = diagnose(made(clipped), Failure(loud, loud))
    if named:
        assert found.matches[0].hypothesis.id == f"do-clipped-{limit}", found.sentence
    assert all(one.hypothesis.id == f"do-clipped-{limit}" for one in found.matches), found.sentence


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (lambda B: B // 4 * 4 if B > 4 else B, "rows-in-tiles-of-4"),
        (lambda B: B // 4 * 4, "rows-in-whole-tiles-of-4"),
        (lambda B: B - (B == 5), "last-of-5-rows-lost"),
        (lambda B: min(B, 4), "rows-beyond-4"),
        (lambda B: B // 16 * 16 if B > 16 else B, "rows-in-tiles-of-16"),
        (lambda B: min(B, 16), "rows-beyond-16"),
    ],
)
def test_rows_that_are_lost_are_counted_at_many_sizes(rows, named):
    def without(p, right):
        n = rows(p.B)
        if n == 0:
            return right | {key: 0 * right[key] for key in ("dW_xh", "dW_hh")}
        part = replace(p, x=p.x[:, :n], h0=p.h0[:n], loss=replace(p.loss, g=p.loss.g[:, :n]))
        found = Tape(part).results
        return right | {key: np.asarray(found[key], dtype=np.float64) for key in ("dW_xh", "dW_hh")}

    small = alike(problem(), (2, 17 if "16" in named else 5, 2, 2, 2), 0, Support())
    found = diagnose(made(without), Failure(small, small))
    assert [one.hypothesis.id for one in found.matches] == [named], found.sentence


def test_a_window_that_never_reaches_the_start_is_named():
    def short(p, right):
        cut = Truncation("window", k=min(p.truncation.k, max(1, p.T - 1)))
        found = Tape(replace(p, truncation=cut)).results
        return right | {key: np.asarray(found[key], dtype=np.float64) for key in right if key.startswith("d")}

    p = problem(truncation=Truncation("window", k=5))
    found = diagnose(made(short), Failure(p, p))
    assert found.matches[0].hypothesis.id == "window-short-of-the-start", found.sentence


def test_truncations_that_agree_on_some_parameters_are_told_apart_by_others():
    def short(p, right):
        cut = replace(p.truncation, k2=max(p.truncation.k2 - 1, p.truncation.k1))
        return right | {"dh0": np.asarray(Tape(replace(p, truncation=cut)).results["dh0"], dtype=np.float64)}

    p = problem(**PERIODIC)
    found = diagnose(made(short), Failure(p, p))
    same = ["periodic-k2-too-short", "periodic-end-one-later"]  # in dh0 there is no difference
    assert [one.hypothesis.id for one in found.matches] == same, found.sentence


@pytest.mark.parametrize("cell", ["elman", "lstm"])
def test_a_limit_on_the_way_back_is_named(cell):
    p = problem(cell)
    found = diagnose(planted("state_gradient_clipped", "blind"), Failure(p, p))
    assert found.matches[0].hypothesis.id == "arrived-h-clipped-10", found.sentence


@pytest.mark.parametrize("cut", [WINDOW, CHUNK, PERIODIC, {}], ids=str)
@pytest.mark.parametrize("cell", ["elman", "lstm"])
def test_losses_share_a_group_as_they_share_a_pass(cell, cut):
    p = alike(problem(cell, finals=True, lengths=np.array([3, 0]), **cut), (7, 4, 4, 5, 5), 1, Support(), loud=30.0)
    clipped = Twist(grouped=True, arrives=lambda _, name, v: np.clip(v, -10, 10) if name == "h" else v)
    found, got = Tape(p, clipped).results, planted("state_gradient_clipped", "blind").call(p)
    exact = Tape(p).results
    for key in [key for key in got if key.startswith("dW")]:
        assert np.abs(found[key] - got[key]).max() <= 1e-12 * np.abs(got[key]).max(), key
        assert np.abs(exact[key] - got[key]).max() >= 1e-3 * np.abs(got[key]).max(), key


def test_digits_of_sizes_that_are_far_apart():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [_digits(*pair) for pair in ((1e-320, 1e300), (1.0, np.inf), (np.inf, np.inf))] == [0, 0, 0]
        assert _digits(1.0, 1e-9) == pytest.approx(9)
        assert _digits(1e300, 1e-300) > 15


def test_a_wrong_loss_alone_is_no_evidence_for_a_scale():
    def change(p, answer):
        return answer | {"loss": answer["loss"] * 0.77} if p.T == 9 else answer

    p = problem()
    found = diagnose(made(change), Failure(p, p))
    assert found is not None
    assert not found.matches, found.sentence


def test_a_name_that_another_problem_contradicts_is_withheld():
    first = []

    def change(p, answer):
        if p.T != 9:
            return answer
        first.append(p.x)
        lost = -1 if np.array_equal(p.x, first[0]) else 0  # the last row is lost, in later problems the first one
        answer["dx"][:, lost] = 0
        return answer

    p = problem()
    found = diagnose(made(change), Failure(p, p))
    assert found is not None
    assert not found.matches, found.sentence


def test_a_name_that_other_sizes_contradict_gives_way():
    """Nothing flows back where there is one row. Tiles of four rows without a rest say so too, but for B = 5."""

    def change(p, answer):
        return {key: 0 * value if key[0] == "d" and p.B == 1 else value for key, value in answer.items()}

    whole = problem()
    p = replace(whole, x=whole.x[:, :1], h0=whole.h0[:1], loss=Loss("cotangent", g=whole.loss.g[:, :1]))
    found = diagnose(made(change), Failure(p, p))
    assert found is not None
    assert found.matches[0].hypothesis.id == "zero", found.sentence
    assert "up to B = 1 (right at 2)" in found.sentence


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


@pytest.mark.parametrize(
    ("name", "cut", "T", "best"),
    [
        ("full_is_cut_off", Truncation("full"), 101, "far-terms-100"),
        ("truncations_reach_64_steps", Truncation("chunk", k=REACH), 65, "chunks-of-64-at-most"),
    ],
)
def test_reach_that_is_capped_is_told_from_the_smallest_problem(name, cut, T, best):
    """No list of known mistakes has each number of steps: the smallest problem that fails is one step longer."""
    names = {"readouts": "none", "losses": "cotangent", "activations": "tanh"}
    names |= {"truncations": "full", "reductions": "sum"}
    long = generic(7200, Support(), "elman", "float64", (150, 1, 1, 2, 2), names)
    assert long is not None
    worst = replace(remembering(long), truncation=cut)
    assert worst.loss.g is not None
    k = None if cut.k is None else T
    smallest = replace(worst, x=worst.x[:T], loss=replace(worst.loss, g=worst.loss.g[:T]), truncation=replace(cut, k=k))
    found = diagnose(planted(name, "far_out"), Failure(smallest, worst))
    assert found is not None
    assert found.matches[0].hypothesis.id == best
    assert found.matches[0].digits > 10
