"""Small results, in the form of results.json, for tests of what reads reports."""

from __future__ import annotations

from typing import Any

Results = dict[str, Any]


def finding(verdict: str = "pass", *, error: float | str | None = 0.5, **names: str) -> Results:
    """One finding; a failure has a counterexample."""
    wrong = verdict in ("fail", "crash", "timeout")
    problem = {"cell": "elman", "activation": "tanh", "readout": "none", "loss": "cotangent", "truncation": "full"}
    worst = {"error_over_budget": error, "array": "dW_hh", "where": [0, 0], "bound": None}
    counterexample = {
        "case": "cases/3f2a90b1c4d5.safetensors",
        "worst_case": None,
        "script": "cases/3f2a90b1c4d5.py",
        "replay": "bpttcheck replay reports/cases/3f2a90b1c4d5.safetensors mine.py",
        "diagnosis": {"sentence": "wrong by a step", "matches": [], "where": None},
        "problem": {**problem, "dtype": "float64", **dict.fromkeys("TBDHK", 1), "arrays": {}},
        "comparison": {
            "array": "dW_hh",
            "where": [0, 0],
            "got": "0x1.8p-3",
            "want": "0x1.9p-3",
            "error": "0.1",
            "budget": "1e-16",
        },
    }
    return {
        "property": "p",
        "cell": "elman",
        "dtype": "float64",
        "verdict": verdict,
        "examples": 20,
        "conclusive": 20,
        "invalid": 0,
        "seconds": 0.5,
        "worst": None if verdict == "unsupported" else worst,
        "message": "dW_hh[0,0]: got 0x1.8p-3, want 0x1.9p-3\n  where" if wrong else "",
        "notes": [],
        "counterexample": counterexample if wrong else None,
        **names,
    }


def target(name: str = "mine.py", *, verdict: str = "certified", findings: list[Results] | None = None) -> Results:
    """One target."""
    lists = ("cells", "activations", "readouts", "losses", "reductions", "truncations", "dtypes", "keys", "unclaimed")
    return {
        "name": name,
        "kind": "path",
        "verdict": verdict,
        "reason": None,
        "source": {"file": "mine.py", "sha256": "0" * 64, "compiled": {}},
        "certified": {
            **{key: [] for key in lists},
            "examples": 20,
            "conclusive_share": 1.0,
            "worst_error_over_budget": 0.5,
        },
        "notes": [],
        "findings": [] if findings is None else findings,
    }


def report(*targets: Results) -> Results:
    """A whole results.json."""
    return {
        "schema_version": 1,
        "suite_version": "0.1.0",
        "seed": 0,
        "profile": "smoke",
        "command": ["bpttcheck", "certify", "mine.py"],
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 1.5,
        "environment": {
            "python": "3.12.1",
            "implementation": "CPython",
            "platform": "Linux 6",
            "machine": "x86_64",
            "packages": {"numpy": "1.26"},
        },
        "properties": {"p": "A sentence that can be false."},
        "targets": list(targets),
    }
