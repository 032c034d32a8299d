"""A verdict for programs; docs/gate.md documents the keys. SCHEMA_VERSION rises when one changes its meaning."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from evalkit.gate.verdict import Verdict

SCHEMA_VERSION = 1


def to_json(verdict: Verdict) -> str:
    """One object, indented; numbers that do not exist are null."""
    return json.dumps(as_values(verdict), indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def as_values(verdict: Verdict) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "decision": verdict.decision,
        "exit_status": verdict.exit_status,
        "headline": verdict.headline,
        "baseline": asdict(verdict.baseline) | {"folder": str(verdict.baseline.folder)},
        "candidate": asdict(verdict.candidate) | {"folder": str(verdict.candidate.folder)},
        "reasons": list(verdict.reasons),
        "findings": [asdict(finding) for finding in verdict.findings],
        "comparisons": [asdict(one) for one in verdict.comparisons],
        "quantities": [
            asdict(one) | {"change": one.change, "limit": one.limit and one.limit.model_dump()}
            for one in verdict.quantities
        ],
        "speeds": [asdict(one) | {"ratio": one.ratio} for one in verdict.speeds],
        "notes": list(verdict.notes),
        "gate": verdict.gate.model_dump(mode="json"),
    }
