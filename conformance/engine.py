"""One finding: a property's cases, drawn by Hypothesis and judged, and the smallest counterexample if there is one.

Deterministic: the seed derives from (seed, property, cell, dtype); a case is judged once and its outcome remembered;
shrinking is bounded by the number of cases judged, never by time.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky, Unsatisfiable
from hypothesis.strategies import SearchStrategy

from bptt.problem import NARROW, Problem
from bptt.support import Support
from conformance.bench import TargetBench, digest
from conformance.cases import Saved
from conformance.errors import ContractBroken, Declined, TargetCrash, TargetStarved, TargetTimeout, UsageError, describe
from conformance.render.terminal import many
from conformance.stopping import STOP
from conformance.willing import willing
from oracle.errors import OracleDisagrees, PrecisionExhausted
from oracle.pairs import confirm
from oracle.truth import Truth
from properties.base import Answer, Bench, Case, Comparison, Judgement, Property
from properties.compare import against_truth, within
from properties.deletions import deletions
from properties.recipe import no_constants
from properties.reductions import reductions
from properties.strategies import nothing_offered

LEAST_CONCLUSIVE = 20
LEAST_SHARE = 0.9
HOPELESS_SHARE = 0.7
MOST_VAGUE = 100
HOPELESS_VAGUE = 0.05
"""Drawing ends where of so many problems in a narrow format a smaller share than this was conclusive."""
MOST_TIMEOUTS = 6
"""How often a target is waited for in vain before its smallest case so far is taken."""
MOST_DELETIONS = 120
"""How many further cases are judged while parts of the smallest one are left out."""
PATIENCE = 20
"""How many problems a target declines, and answers none, before it is seen whether it answers any at all."""
ROUNDS = 3
"""How often drawing goes on where too few examples were conclusive: a small sample may miss the share by chance."""


@dataclass(frozen=True)
class Profile:
    """How much is judged: examples a property, cell and dtype, cases that shrinking may judge, and how large.

    largest  fixed cases that take more `work` are left out
    deep     whether those are judged that a quick look leaves out
    """

    name: str
    examples: int
    shrinks: int
    largest: float = math.inf
    deep: bool = True

    def judges(self, case: Case) -> bool:
        """Whether a fixed case is not left out."""
        return work(case.problem) <= self.largest and (self.deep or not case.deep)


PROFILES = {
    p.name: p
    for p in (
        Profile("smoke", 20, 300, 4e4, deep=False),
        Profile("standard", 100, 600),
        Profile("thorough", 1000, 2000),
    )
}


@dataclass(frozen=True)
class Outcome:
    """What became of one case. `verdict` is pass, fail, crash, timeout, declined or inconclusive.

    companion  the problem that must be asked first, where it takes two to show the failure
    repeats    whether a freshly loaded target fails again
    stderr     the end of what a target had printed that crashed or hung
    starved    whether memory was what a vast problem failed for, which says nothing of the target's answers
    suspect    the judgement of answers outside their own budgets, where that is not what was judged
    solved     of a failure or a suspect, the problems whose exact solutions it rests on
    """

    case: Case
    verdict: str
    judgement: Judgement | None = None
    message: str = ""
    companion: Problem | None = None
    repeats: bool = True
    stderr: str = ""
    starved: bool = False
    suspect: Judgement | None = None
    solved: tuple[Problem, ...] = ()

    @property
    def failed(self) -> bool:
        return self.verdict in ("fail", "crash", "timeout")

    @property
    def worst(self) -> Comparison | None:
        return self.judgement.worst if self.judgement else None


@dataclass
class Finding:
    """The verdict on one property, cell and dtype, with what was seen on the way.

    vague  problems in a narrow format that were judged, and are no examples, as their budget says too little
    """

    property: Property
    cell: str
    dtype: str
    verdict: str = "pass"
    message: str = ""
    examples: int = 0
    conclusive: int = 0
    declined: int = 0
    vague: int = 0
    seconds: float = 0.0
    worst: Outcome | None = None
    smallest: Outcome | None = None
    bench: TargetBench | None = None
    notes: list[str] = field(default_factory=list)


class Counterexample(Exception):
    """Raised inside Hypothesis, to make it shrink."""


class Enough(BaseException):
    """Raised inside Hypothesis, to end its search at once: it takes an Exception for a failure, and goes on."""


def derive_seed(seed: int, property_id: str, cell: str, dtype: str) -> int:
    """The seed of one finding.

    >>> derive_seed(0, "oracle-agreement", "elman", "float64") != derive_seed(1, "oracle-agreement", "elman", "float64")
    True
    """
    text = f"{seed}|{property_id}|{cell}|{dtype}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def is_vast(problem: Problem) -> bool:
    """Whether a matrix that is square in an axis, as softmax's Jacobian is in K, takes more than 1 GiB in float64."""
    return max(problem.T * problem.B, problem.D, problem.H, problem.K) ** 2 * 8 > 1 << 30


def work(problem: Problem) -> int:
    """Multiplications of all steps, for one gate: the two dozen largest problems take as long as all the others."""
    return problem.T * problem.B * problem.H * (problem.D + problem.H + problem.K)


def judge(prop: Property, case: Case, bench: Bench, alone: bool = False) -> Outcome:
    """Check one case and say what became of it.

    Where the property holds, every answer given on the way is also held to its own budget, if the property asked for
    the truth about it: two wrong answers may well agree with each other. `alone` judges the property, and makes of such
    an answer a suspect.
    """
    witness = Witness(bench)
    try:
        judgement = prop.check(case, witness)
    except Declined as error:
        return Outcome(case, "declined", message=str(error))
    except ContractBroken as error:
        return Outcome(case, "fail", message=str(error), companion=error.companion)
    except TargetTimeout as error:
        return Outcome(case, "timeout", message=str(error), stderr=error.stderr)
    except TargetStarved as error:
        vast = is_vast(case.problem)
        return Outcome(case, "declined" if vast else "crash", message=str(error), stderr=error.stderr, starved=vast)
    except TargetCrash as error:
        return Outcome(case, "crash", message=str(error), stderr=error.stderr)
    except PrecisionExhausted as error:
        return Outcome(case, "inconclusive", message=str(error))
    wrong = () if judgement.failed else witness.wrong()
    full = replace(judgement, comparisons=(*judgement.comparisons, *wrong))
    if not alone:
        judgement = full
    solved = tuple({id(problem): problem for problem, _ in witness.truths}.values())
    if judgement.failed:
        return Outcome(case, "fail", judgement, solved=solved)
    if not judgement.comparisons:
        return Outcome(case, "declined", message="the target claims none of the keys that the property compares")
    verdict = "pass" if judgement.conclusive else "inconclusive"
    return (
        Outcome(case, verdict, judgement, suspect=full, solved=solved) if wrong else Outcome(case, verdict, judgement)
    )


def disagreement(failed: Outcome, bench: Bench) -> str | None:
    """What the oracle's two ways of solving a failed case's problems do not agree in; then it is no fault of theirs."""
    for problem in failed.solved:
        try:
            confirm(bench.truth(problem).solution)
        except PrecisionExhausted:
            continue
        except OracleDisagrees as error:
            return f"the suite itself failed: {error}"
    return None


class Witness:
    """A bench that remembers what was answered in one case, and the truths that were asked for."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.support = bench, bench.support
        self.answers: list[tuple[Problem, Answer]] = []
        self.truths: list[tuple[Problem, Truth]] = []

    def run(self, problem: Problem) -> Answer:
        answer = self.bench.run(problem)
        self.answers.append((problem, answer))
        return answer

    def run_together(self, problems: Sequence[Problem], layout: str) -> list[Answer]:
        answers = self.bench.run_together(problems, layout)
        self.answers += zip(problems, answers, strict=True)
        return answers

    def provoke(self, problem: Problem, fault: str) -> None:
        self.bench.provoke(problem, fault)

    def truth(self, problem: Problem) -> Truth:
        truth = self.bench.truth(problem)
        self.truths.append((problem, truth))
        return truth

    def wrong(self) -> list[Comparison]:
        """What of the answers lies outside its own budget."""
        found, asked = [], {id(problem) for problem, _ in self.answers}
        known = {id(problem): truth for problem, truth in self.truths}
        others = {digest(problem): truth for problem, truth in self.truths if id(problem) not in asked}
        for problem, answer in self.answers:
            truth = known.get(id(problem))
            if truth is None and others:  # the same problem made twice
                truth = others.get(digest(problem))
            if truth is not None and not within(problem, answer, truth):
                found += [c for c in against_truth(problem, answer, truth).comparisons if not c.holds]
        return found


class Search:
    """The cases of one finding, judged one by one; `run` is all there is to call.

    saved   cases of files: those for this property, cell and dtype that the target serves come first
    until   explore: draw towards a large error / budget, until time.monotonic() is there
    alone   whether the property is all that is judged: an answer outside its own budget is a suspect at most
    """

    def __init__(
        self,
        prop: Property,
        bench: TargetBench,
        cell: str,
        dtype: str,
        profile: Profile,
        seed: int,
        saved: Sequence[Saved] = (),
        until: float | None = None,
        alone: bool = False,
    ) -> None:
        self.prop, self.bench, self.profile = prop, bench, profile
        self.finding = Finding(prop, cell, dtype, bench=bench)
        self.seed = derive_seed(seed, prop.id, cell, dtype)
        mine = (s for s in saved if s.property == prop.id and bench.support.serves(s.case.problem))
        self.saved = [s for s in mine if (s.case.problem.cell, s.case.problem.dtype) == (cell, dtype)]
        self.until, self.alone = until, alone
        # who declares functions less exact than usual gives up the allowance for narrow formats
        self.narrow = dtype in NARROW and bench.support.elementary_ulp <= Support.elementary_ulp
        self.outcomes: dict[str, Outcome] = {}
        self.shrinks = self.timeouts = 0
        self.before = 0, 0  # of problems in a narrow format, the vague and the conclusive ones before this drawing
        self.willing: bool | None = None
        self.suspect: Outcome | None = None

    def run(self) -> Finding:
        """Judge the fixed cases, then drawn ones until enough were conclusive or one failed and was shrunk."""
        start = time.perf_counter()
        finding = self.finding
        reason = nothing_offered(self.bench.support, finding.cell)
        reason = reason or self.prop.unsupported(self.bench.support, finding.cell)
        if reason is not None:
            finding.verdict, finding.message = "unsupported", reason
            return finding
        try:
            self._judge_all()
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end the run, nor pass for a verdict
            finding.verdict, finding.message = "error", f"the suite itself failed: {describe(error)}"
        STOP.check()
        if finding.vague:
            count = many(finding.vague, "further problem")
            finding.notes.append(
                f"{count} held, but {finding.dtype} explains so large an error in them that it says little: not counted"
            )
        finding.seconds = time.perf_counter() - start
        return finding

    def _judge_all(self) -> None:
        finding = self.finding
        for saved in self.saved:
            self._count(self._saved(saved))
        for case in () if finding.smallest else self.prop.fixed(self.bench.support, finding.cell, finding.dtype):
            if not self.profile.judges(case):
                continue
            outcome = self._outcome(case)
            self._count(outcome)
            if outcome.failed:
                break
        drawn = self.prop.cases(self.bench.support, finding.cell, finding.dtype)
        fixed = finding.smallest
        for round_ in range(ROUNDS):
            if fixed is None or self.profile.shrinks:
                finding.smallest = None
                self._draw(drawn, round_)
            if finding.smallest is None and fixed is not None:
                self._shrink_fixed(fixed)
            self._delete()
            self._conclude()
            hopeless = finding.conclusive < HOPELESS_SHARE * finding.examples
            if finding.verdict != "inconclusive" or hopeless:
                return

    def _saved(self, saved: Saved) -> Outcome:
        """Judge a case of a file. Raises: UsageError where the file's parameters mean nothing to the property."""
        if saved.companion is not None:
            with contextlib.suppress(Declined, ContractBroken, TargetCrash):
                self.bench.run(saved.companion)
        try:
            return self._outcome(saved.case)
        except (KeyError, IndexError, TypeError, ValueError, AssertionError) as error:
            why = f"{type(error).__name__}: {error}"
            raise UsageError(f"{saved.path}: the case does not fit the property {saved.property} ({why})") from error

    def _shrink_fixed(self, fixed: Outcome) -> None:
        """No drawn case fails, but this fixed one does: look for the smallest of its reductions that does."""
        self.finding.smallest = None
        if self.profile.shrinks:
            self._draw(reductions(fixed.case), ROUNDS)
        self.finding.smallest = self.finding.smallest or fixed

    def _delete(self) -> None:
        """Leave out parts of the smallest case as long as the rest fails."""
        judged = 0
        while (smallest := self.finding.smallest) is not None:
            for problem in deletions(smallest.case.problem):
                case = replace(smallest.case, problem=problem)
                if self._name(case) in self.outcomes or not self.bench.support.serves(problem):
                    continue
                if judged >= min(self.profile.shrinks, MOST_DELETIONS) or self.timeouts >= MOST_TIMEOUTS:
                    return
                judged += 1
                # The parameters may be those of a larger problem alone.
                with contextlib.suppress(KeyError, IndexError, ValueError, AssertionError):
                    if self._outcome(case).failed:
                        self.finding.smallest = self.outcomes[self._name(case)]
                        break
            else:
                return

    def _draw(self, drawn: SearchStrategy[Case], round_: int) -> None:
        """Let Hypothesis draw until enough examples were conclusive, or one failed and was shrunk."""
        finding = self.finding
        self.before = finding.vague, finding.conclusive

        @hypothesis.seed(self.seed + round_)
        @settings(
            max_examples=self.profile.examples,
            database=None,
            deadline=None,
            phases=[Phase.generate, *([] if self.until is None else [Phase.target]), Phase.shrink],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
        )
        @hypothesis.given(drawn)
        def search(case: Case) -> None:
            self._give_up()
            known = self._name(case) in self.outcomes
            if self.until is not None and finding.smallest is None and time.monotonic() >= self.until:
                return  # exploring ends by the clock
            if finding.smallest is not None and not known:
                if self.shrinks >= self.profile.shrinks or self.timeouts >= MOST_TIMEOUTS:
                    raise Enough
                self.shrinks += 1
            if finding.smallest is None and known and not self.outcomes[self._name(case)].failed:
                hypothesis.reject()  # a case counts once
            outcome = self._outcome(case)
            if finding.smallest is None and not known:
                self._count(outcome)
            if outcome.failed:
                finding.smallest = outcome
                raise Counterexample
            if outcome.verdict in ("declined", "inconclusive"):
                hypothesis.reject()
            if self.until is not None and outcome.worst is not None and outcome.worst.ratio > 0:
                hypothesis.target(math.log10(outcome.worst.ratio), label="error / budget")

        with no_constants(), contextlib.suppress(Counterexample, Enough, Flaky, Unsatisfiable):
            search()

    def _give_up(self) -> None:
        """Stop drawing where no end is in sight.

        So it is where the target declined PATIENCE problems, answered none, and declines all the others too; and where
        hardly any problem in a narrow format is conclusive.
        """
        finding = self.finding
        vague, conclusive = finding.vague - self.before[0], finding.conclusive - self.before[1]
        hopeless = vague >= MOST_VAGUE and conclusive < HOPELESS_VAGUE * vague
        if hopeless and self.until is None and finding.smallest is None:
            raise Enough
        if finding.examples == finding.vague == 0 and finding.declined >= PATIENCE and self.willing is None:
            self.willing = willing(self.bench.target, finding.cell, finding.dtype)
        if self.willing is False:
            raise Enough

    def _name(self, case: Case) -> str:
        return digest(case.problem) + repr(sorted(case.parameters.items()))

    def _outcome(self, case: Case) -> Outcome:
        name = self._name(case)
        if name not in self.outcomes:
            STOP.check()
            outcome = judge(self.prop, case, self.bench, self.alone)
            self.outcomes[name] = outcome
            self.timeouts += outcome.verdict == "timeout"
            if self.suspect is None and outcome.suspect is not None:
                self.suspect = Outcome(case, "fail", outcome.suspect, solved=outcome.solved)
            for note in outcome.judgement.notes if outcome.judgement else ():
                if note not in self.finding.notes:
                    self.finding.notes.append(note)
            worst, best = outcome.worst, self.finding.worst.worst if self.finding.worst else None
            if worst is not None and (best is None or (not worst.holds, worst.ratio) > (not best.holds, best.ratio)):
                self.finding.worst = outcome
        return self.outcomes[name]

    def _count(self, outcome: Outcome) -> None:
        finding = self.finding
        if outcome.verdict == "declined":
            finding.declined += 1
            if outcome.starved:
                p = outcome.case.problem
                finding.notes.append(
                    f"not judged at T={p.T} B={p.B} D={p.D} H={p.H} K={p.K}: the target took more memory than it is "
                    "given, as a right one may that keeps a matrix square in an axis"
                )
            return
        if outcome.verdict == "inconclusive" and self.narrow:
            finding.vague += 1
            return
        finding.examples += 1
        finding.conclusive += outcome.verdict == "pass" or (
            outcome.judgement is not None and outcome.judgement.conclusive
        )
        if outcome.failed and finding.smallest is None:
            finding.smallest = outcome

    def _conclude(self) -> None:
        finding = self.finding
        finding.verdict, finding.message = "pass", ""
        if finding.smallest is not None:
            finding.verdict = finding.smallest.verdict
            doubt = disagreement(finding.smallest, self.bench)
            if doubt is not None:
                finding.verdict, finding.message, finding.smallest = "error", doubt, None
        elif finding.examples == finding.vague == 0:
            finding.verdict = "unsupported"
            finding.message = "; ".join(sorted(self.bench.executed.declined)) or "no problem was answered"
        elif finding.conclusive < LEAST_CONCLUSIVE or finding.conclusive < LEAST_SHARE * finding.examples:
            finding.verdict = "inconclusive"
            finding.message = self._too_few()

    def _too_few(self) -> str:
        """What is said where too few examples were conclusive."""
        finding = self.finding
        if finding.vague:
            return (
                f"{finding.conclusive} of {many(finding.examples + finding.vague, 'problem')} were conclusive in "
                f"{finding.dtype}, want at least {LEAST_CONCLUSIVE}; a wider 'accumulate' or smaller 'elementary_ulp' "
                "under SUPPORTS, where they are true, narrow what the target may be off by"
            )
        return (
            f"{finding.conclusive} of {many(finding.examples, 'example')} "
            f"{'was' if finding.examples == 1 else 'were'} conclusive, "
            f"want at least {LEAST_CONCLUSIVE} and {LEAST_SHARE:.0%}"
        )
