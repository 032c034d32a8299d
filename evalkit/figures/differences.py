"""Differences to a baseline as a forest plot: a panel a metric, a row a system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evalkit.figures.axis import Axis
from evalkit.tables.summary import MetricFormat, metric_format, metric_keys

REACH = 1.0  # a system at most this share of the others' span away still widens the panel


@dataclass(frozen=True)
class DifferencePanel:
    """One metric of one data set.

    Attributes:
        rows: of `evalkit.tables.compare_with_baseline`, one a system that was compared.
        axis: around zero and the systems that compete; others may lie beyond it.
    """

    metric: MetricFormat
    rows: tuple[Mapping[Any, Any], ...]
    axis: Axis

    @property
    def label(self) -> str:
        """Of the axis: the unit, and which side is better."""
        better = {True: "   better →", False: "   ← better", None: ""}[self.metric.higher_is_better]
        return (f"difference ({self.metric.unit})" if self.metric.unit else "difference") + better


def difference_panel(differences: pd.DataFrame, metric: str, near: Sequence[str]) -> DifferencePanel:
    """The panel of `metric`, a key in `compared_metrics`, of one data set's `differences`, scaled for `near`."""
    rows = differences[(metric_keys(differences) == metric) & (differences["n"] > 0)].to_dict("records")
    main = [row for row in rows if row["system"] in near] or rows
    ends = _ends(main)
    low, high = min(ends), max(ends)
    reach = REACH * (high - low)
    ends += _ends([row for row in rows if low - reach <= row["difference"] <= high + reach])
    return DifferencePanel(metric_format(metric), tuple(rows), Axis.around(ends, 0.08))


def compared_metrics(differences: pd.DataFrame) -> list[str]:
    """The keys of the metrics with at least one comparison, in order."""
    return list(dict.fromkeys(metric_keys(differences)[differences["n"] > 0]))


def competing(systems: pd.DataFrame) -> list[str]:
    """Codecs with codes, and folders: what the panels are scaled for."""
    rated = (systems["kind"] == "codec") & (systems["bitrate"].fillna(0) > 0)
    return list(systems.loc[(systems["kind"] == "folder") | rated, "system"])


def _ends(rows: Sequence[Mapping[Any, Any]]) -> list[float]:
    values = [float(row[name]) for row in rows for name in ("difference", "low", "high")]
    return [0.0, *(value for value in values if value == value)]
