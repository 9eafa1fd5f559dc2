"""A target that declines everything is not asked for ever; one that answers anything is searched as before."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import settings

from bptt.cells import CELLS
from bptt.support import Support
from conformance import engine, willing
from conformance.bench import TargetBench, configuration
from conformance.engine import PATIENCE, PROFILES, Profile, Search
from conformance.targets import Target
from implementations.numpy_bptt import gradients
from properties import PROPERTIES
from properties.strategies import problems

PLAIN, EVERYTHING = Support(), Support(h0_none=True)


def searched(call, prop="oracle-agreement", cell="elman", support=PLAIN, dtype="float64", profile=PROFILES["smoke"]):
    """A search, and the finding that it made of a function."""
    target = Target("mine.py", "path", support, call, None, None)
    search = Search(PROPERTIES[prop], TargetBench(target, dtype), cell, dtype, profile, 0)
    return search, search.run()


def counting(serves):
    """The NumPy implementation where it is willing, and how often it was asked."""
    asked = []

    def call(problem):
        asked.append(problem)
        if not serves(problem):
            raise NotImplementedError("never")
        return gradients(problem)

    return call, asked


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_every_configuration_that_is_drawn_is_among_those_asked(cell, dtype):
    known = {configuration(problem) for problem in willing.every_configuration(EVERYTHING, cell, dtype)}

    @hypothesis.seed(0)
    @settings(max_examples=300, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(problems(EVERYTHING, cell, dtype))
    def drawn(problem):
        assert configuration(problem) in known

    drawn()


def test_configurations_are_of_what_is_offered_alone():
    few = Support(
        activations=("relu",), readouts=("none",), losses=("squared_error",), reductions=("mean",),
        truncations=("window",), lengths=False, max_size={"T": 3, "B": 2, "H": 4},
    )  # fmt: skip
    (one,) = willing.every_configuration(few, "elman", "float32")
    assert (one.activation, one.readout, one.loss.kind, one.truncation.kind) == (
        "relu",
        "none",
        "squared_error",
        "window",
    )
    assert (one.loss.time_reduction, one.lengths, one.dtype) == ("mean", None, "float32")
    assert few.serves(one)


@pytest.mark.parametrize("prop", ["oracle-agreement", "exact-problems", "cotangent-linearity"])
def test_who_declines_everything_is_asked_each_configuration_once_and_no_more(prop):
    call, asked = counting(lambda _: False)
    number = len(list(willing.every_configuration(Support(), "elman", "float64")))
    search, finding = searched(call, prop)
    assert (finding.verdict, finding.message, finding.examples) == ("unsupported", "never", 0)
    fixed = len(list(PROPERTIES[prop].fixed(Support(), "elman", "float64")))
    assert number < len(asked) <= number + max(fixed, PATIENCE) + 1
    asked.clear()
    again, finding = searched(call, prop)
    assert finding.verdict == "unsupported"
    assert len(asked) <= max(fixed, PATIENCE) + 1  # it is known by now
    assert search.willing is again.willing is False


def test_a_callable_of_any_kind_may_decline():
    class Adapter:
        __slots__ = ()
        __hash__ = None

        def __call__(self, problem):
            raise NotImplementedError("never")

    for call in (Adapter(), Adapter().__call__):
        assert searched(call)[1].verdict == "unsupported"


def rare(problem):
    """One configuration in a hundred."""
    kinds = (problem.activation, problem.readout, problem.loss.kind, problem.truncation.kind)
    return kinds == ("sigmoid", "linear", "squared_error", "periodic")


def sixteens(problem):
    return problem.x.shape[2] % 16 == 0 and problem.params["W_hh"].shape[0] % 16 == 0


def large(problem):
    return problem.x.size > 200


@pytest.mark.parametrize("serves", [rare, sixteens, large])
def test_who_answers_anything_is_judged_as_if_nothing_stopped(monkeypatch, serves):
    """Also one that declines by its sizes, on whose account the sizes of what is asked differ."""
    told = []
    for patience in (PATIENCE, 10**9):
        monkeypatch.setattr(engine, "PATIENCE", patience)
        search, finding = searched(counting(serves)[0], "batch-consistency", profile=Profile("x", 10, 300))
        assert search.willing is not False
        if serves is rare:
            assert search.willing is (True if patience == PATIENCE else None)  # it is asked whether it ever is
        told.append((finding.verdict, finding.message, finding.examples, finding.conclusive, finding.declined))
    assert told[0] == told[1]
    assert told[0][0] == ("pass" if serves is rare else "unsupported")  # the others decline a row of what they serve


def test_declining_what_is_hard_is_still_a_failure():
    """Whoever answers one problem of a configuration and declines another has failed, however many it declines."""
    _, finding = searched(counting(lambda problem: float(np.abs(problem.x).max()) < 0.75)[0])
    assert finding.verdict == "fail"
    assert "support: " in finding.smallest.message


def test_a_target_that_answers_at_once_is_never_asked_for_more():
    call, _ = counting(lambda _: True)
    search, finding = searched(call, "causality")
    assert (finding.verdict, search.willing) == ("pass", None)
