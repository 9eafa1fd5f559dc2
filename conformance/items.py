"""Items of a run: one property, cell and dtype, judged on every target; in this process, or spread over several.

An item depends on nothing but what it holds, so that the results are the same however many processes share the items:
the seed derives from the item, and an adapter's file is executed afresh for each finding.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from conformance.again import reproducible
from conformance.bench import Executed, TargetBench, Truths
from conformance.cases import Saved, read_folder
from conformance.diagnosis import Failure
from conformance.engine import Finding, Profile, Search, disagreement
from conformance.errors import UsageError
from conformance.picture import picture_of
from conformance.results import finding_json
from conformance.stopping import deaf, hangs_up
from conformance.targets import DEFAULT, Setting, Target, afresh, compiled, known
from conformance.workers import close_all
from implementations.worker import die_with_parent
from properties import PROPERTIES

AGREEMENT = "oracle-agreement"
OUTSIDE = "the theorem holds; an answer on the way is outside its own budget"
FEW = 4
"""So many items are judged here: a process takes longer to start than they take."""
COLLECTIONS = (20_000, 10, 10)
"""The garbage collector's thresholds while items are judged: truths are large, and little is ever in cycles."""


@dataclass(frozen=True)
class Item:
    """One property, cell and dtype, and the targets to be judged, by name.

    agreement  whether the run judges oracle-agreement too
    """

    property: str
    cell: str
    dtype: str
    targets: tuple[str, ...]
    profile: Profile
    seed: int
    report_dir: Path
    cases: Path | None = None
    setting: Setting = DEFAULT
    agreement: bool = True


@dataclass(frozen=True)
class Judged:
    """One finding on one target as it stands in the results, what was executed for it, and what is to be diagnosed.

    compiled  the compiled objects that the target had loaded by then: name and digest
    """

    target: str
    finding: dict[str, Any]
    executed: Executed
    failure: Failure | None = None
    compiled: Mapping[str, str] = field(default_factory=dict)


def offers(target: Target, cell: str, dtype: str) -> bool:
    """Whether a target is asked about a cell and dtype at all."""
    return cell in target.support.cells and dtype in target.support.dtypes


def judge_items(items: Sequence[Item], jobs: int) -> Generator[tuple[Item, list[Judged]]]:
    """Each item with its findings, as they are made: in the order of the items where one process makes them.

    Raises: UsageError where a target took its process down.
    """
    if jobs <= 1 or len(items) <= FEW:
        thresholds = gc.get_threshold()
        gc.set_threshold(*COLLECTIONS)
        try:
            for item in items:
                yield item, judge_item(item)
        finally:
            gc.set_threshold(*thresholds)
        return
    # Spawned, not forked: a fork of a process whose libraries have started threads may hang.
    context = multiprocessing.get_context("spawn")
    before = {child.pid for child in psutil.Process().children()}
    pool = ProcessPoolExecutor(min(jobs, len(items)), mp_context=context, initializer=_heed, initargs=(os.getpid(),))
    done = False
    try:
        futures = {pool.submit(judge_item, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], future.result()
        done = True
    except BrokenProcessPool as error:
        raise UsageError(
            "a target ended the process that judged it; expected an adapter that returns or raises "
            "(--jobs 1 shows in which finding)"
        ) from error
    finally:
        if not done:  # interrupted: what they are at does not matter any more
            for child in psutil.Process().children():
                if child.pid not in before:
                    child.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _heed(first: int) -> None:
    """In a process of the pool: Ctrl-C is the first process's business; when that says so, end the workers and go."""

    def leave(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it comes again when another process of the pool has gone
        close_all()
        os._exit(143)

    gc.set_threshold(*COLLECTIONS)
    gc.collect()
    gc.freeze()  # what was imported stays; there is no use in looking it through again and again
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
    if hangs_up():
        signal.signal(signal.SIGHUP, leave)
    deaf()
    die_with_parent(signal.SIGTERM, first)  # one that is killed can say nothing


def judge_item(item: Item) -> list[Judged]:
    """The findings of one item; targets that are asked the same problems share the truth about them."""
    found, truths = [], Truths()
    for name in item.targets:
        target = known(name, item.setting)
        if not offers(target, item.cell, item.dtype):
            continue
        bench = TargetBench(afresh(target), item.dtype, truths)
        saved = () if item.cases is None else read_folder(item.cases)
        search, finding = _find(item, target, bench, truths, saved)
        json = finding_json(finding, target, item.report_dir)
        json["picture"] = picture_of(search, target, truths, item.report_dir)
        executed = search.bench.executed
        found.append(Judged(name, json, executed, _failure(finding), compiled(target)))
    truths.forget()
    return found


def _find(
    item: Item, target: Target, bench: TargetBench, truths: Truths, saved: Sequence[Saved]
) -> tuple[Search, Finding]:
    """The finding of a property, and the search that made it.

    A theorem may hold of wrong answers. That an answer is outside its own budget is for oracle-agreement to say, which
    has problems of its own; where these do not show it, the property that met it does.
    """
    where = (item.cell, item.dtype, item.profile, item.seed)
    search = Search(PROPERTIES[item.property], bench, *where, saved, alone=True)
    finding = run_search(search, target, truths)
    suspect = search.suspect
    if finding.verdict not in ("pass", "inconclusive") or suspect is None:
        return search, finding
    profile = replace(item.profile, shrinks=0)
    agreement = TargetBench(afresh(target), item.dtype, truths)
    shown = Search(PROPERTIES[AGREEMENT], agreement, item.cell, item.dtype, profile, item.seed)
    if shown.run().verdict in ("fail", "crash", "timeout"):
        if not item.agreement:
            finding.notes.append(f"{OUTSIDE}, as {AGREEMENT} would show: it was not selected")
        return search, finding
    again = Search(PROPERTIES[item.property], TargetBench(afresh(target), item.dtype, truths), *where, saved)
    smaller = run_search(again, target, truths)
    if smaller.verdict == "fail":
        search, finding = again, smaller
    else:  # it does not show each time: what was seen stands
        earlier = [outcome.case.problem for outcome in search.outcomes.values()]
        doubt = disagreement(suspect, bench)
        if doubt is not None:
            finding.verdict, finding.message = "error", doubt
            return search, finding
        finding.verdict, finding.message, finding.worst = "fail", "", suspect
        finding.smallest = reproducible(finding.property, suspect, target, earlier, truths)
    finding.notes.append(OUTSIDE)
    return search, finding


def _failure(finding: Finding) -> Failure | None:
    """What there is to diagnose: a wrong number, not a crash or a broken contract."""
    smallest = finding.smallest
    if smallest is None or smallest.verdict != "fail" or smallest.judgement is None:
        return None
    worst = finding.worst if finding.worst is not None and finding.worst.failed else smallest
    return Failure(smallest.case.problem, worst.case.problem, smallest.companion)


def run_search(search: Search, target: Target, truths: Truths) -> Finding:
    """Run a search, and see whether the failure that it found shows again."""
    finding = search.run()
    if finding.smallest is not None and finding.smallest.failed:
        earlier = [outcome.case.problem for outcome in search.outcomes.values()]
        finding.smallest = reproducible(finding.property, finding.smallest, target, earlier, truths)
    return finding
