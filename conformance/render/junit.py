"""junit.xml: one test suite a target, one test case a finding, in the form that CI servers read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from conformance.render.terminal import FAILURES, diagnosis_text, entry, measured, ratio, tally, visible

if TYPE_CHECKING:
    from collections.abc import Mapping


def to_junit(results: Mapping[str, Any]) -> str:
    """Render the findings as XML 1.0; a target without any finding is one erroneous case, so that it is seen."""
    root = ET.Element("testsuites", name="bpttcheck", time=_seconds(results["seconds"]))
    for target in results["targets"]:
        root.append(_suite(results, target))
    for total in ("tests", "failures", "errors", "skipped"):
        root.set(total, str(sum(int(suite.get(total, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(results: Mapping[str, Any], target: Mapping[str, Any]) -> ET.Element:
    findings = target["findings"]
    counts = tally(findings)
    suite = ET.Element("testsuite", name=visible(target["name"]))
    suite.set("tests", str(len(findings) or 1))
    suite.set("failures", str(sum(counts.get(verdict, 0) for verdict in FAILURES)))
    suite.set("errors", str(counts.get("error", 0) if findings else 1))
    suite.set("skipped", str(counts.get("unsupported", 0) + counts.get("inconclusive", 0)))
    suite.set("time", _seconds(sum(float(finding["seconds"]) for finding in findings)))
    suite.set("timestamp", visible(results["started"]))
    properties = ET.SubElement(suite, "properties")
    for key in ("suite_version", "profile", "seed"):
        ET.SubElement(properties, "property", name=key, value=visible(str(results[key])))
    ET.SubElement(properties, "property", name="verdict", value=target["verdict"])
    for finding in findings:
        suite.append(_case(target, finding))
    if not findings:
        case = ET.SubElement(suite, "testcase", classname=visible(target["name"]), name="verdict", time="0.000")
        reason = visible(target["reason"] or "nothing was executed")
        ET.SubElement(case, "error", type=target["verdict"], message=reason).text = reason
    return suite


def _case(target: Mapping[str, Any], finding: Mapping[str, Any]) -> ET.Element:
    """One finding. A crash and a timeout are the target's failures; an error is the suite's own."""
    verdict = finding["verdict"]
    name = visible(".".join((target["name"], finding["cell"], finding["dtype"])))
    case = ET.Element("testcase", classname=name, name=visible(finding["property"]))
    case.set("time", _seconds(finding["seconds"]))
    if verdict != "pass":
        kind = "failure" if verdict in FAILURES else "error" if verdict == "error" else "skipped"
        first_line = finding["message"].strip().split("\n", 1)[0]
        element = ET.SubElement(case, kind, type=verdict, message=visible(first_line) or verdict)
        element.text = visible(_text(finding), lines=True)
    return case


def _text(finding: Mapping[str, Any]) -> str:
    """Join the message and then what helps to understand and to rerun it."""
    lines = [finding["message"].rstrip(), *finding["notes"]]
    worst = measured(finding)
    if worst:
        lines.append(
            f"worst error ÷ budget: {ratio(worst['error_over_budget'])} at {entry(worst['array'], worst['where'])}"
        )
    counterexample = finding["counterexample"]
    if counterexample:
        diagnosis = diagnosis_text(counterexample)
        if diagnosis and diagnosis not in finding["message"]:
            lines.append(f"diagnosis: {diagnosis}")
        lines += [f"script: {counterexample['script']}", f"replay: {counterexample['replay']}"]
    return "\n".join(lines)


def _seconds(value: float | str) -> str:
    number = float(value)
    return f"{number:.3f}" if math.isfinite(number) else "0.000"
