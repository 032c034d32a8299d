"""Scores of the single utterances: a panel a metric, a row a system."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalkit.figures.axis import Axis
from evalkit.tables.summary import MetricFormat, metric_format, metric_keys

QUANTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Scores:
    """One system's.

    Attributes:
        values: those that are ok and finite, in the order of the rows.
        utterances: of `values`.
        tried: utterances that were to be scored.
    """

    system: str
    values: NDArray[np.float64]
    utterances: tuple[str, ...]
    tried: int

    def quantiles(self) -> NDArray[np.float64]:
        """At QUANTILES percent."""
        return np.percentile(self.values, QUANTILES)


@dataclass(frozen=True)
class DistributionPanel:
    """One metric of one data set; `rows` as the systems, some perhaps without values."""

    metric: MetricFormat
    rows: tuple[Scores, ...]
    axis: Axis


def distribution_panel(utterances: pd.DataFrame, metric: str, systems: list[str]) -> DistributionPanel:
    """The panel of `metric`, a key in `scored_metrics`, over `systems` of one data set's `utterances`."""
    of_system = dict(tuple(utterances[metric_keys(utterances) == metric].groupby("system", sort=False)))
    rows = tuple(_scores(name, of_system.get(name, utterances[:0])) for name in systems)
    ends = [float(value) for row in rows if len(row.values) for value in (row.values.min(), row.values.max())]
    return DistributionPanel(metric_format(metric), rows, Axis.around(ends, 0.05))


def scored_metrics(utterances: pd.DataFrame) -> list[str]:
    """The keys of the metrics with at least one score, in order; one without any has nothing to draw."""
    return list(dict.fromkeys(metric_keys(utterances)[utterances["status"] == "ok"]))


def _scores(system: str, rows: pd.DataFrame) -> Scores:
    ok = rows[(rows["status"] == "ok") & np.isfinite(rows["value"].astype(float))]
    return Scores(system, ok["value"].to_numpy(np.float64), tuple(ok["utterance"]), len(rows))
