"""Diagnosis: what known mistakes would have given on generic problems, held against what a target gave."""

from __future__ import annotations

from conformance.diagnosis.diagnose import Diagnosis, Failure, diagnose

__all__ = ["Diagnosis", "Failure", "diagnose"]
