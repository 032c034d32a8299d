"""The gate: whether a codec got worse between two runs, and by how much (`evalkit compare`)."""

from evalkit.gate.comparison import compare_runs
from evalkit.gate.settings import Gate, GateError, load_gate
from evalkit.gate.verdict import Comparison, Finding, Outcome, Quantity, Side, Speed, Verdict

__all__ = [
    "Comparison",
    "Finding",
    "Gate",
    "GateError",
    "Outcome",
    "Quantity",
    "Side",
    "Speed",
    "Verdict",
    "compare_runs",
    "load_gate",
]
