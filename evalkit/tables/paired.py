"""Every system against one of them, utterance by utterance: differences, tests, effect sizes, verdicts."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import pandas as pd

from evalkit.stats.differences import PairedComparison, compare_paired, holm_of, verdict_of
from evalkit.tables.summary import metric_format, resampling_unit

COLUMNS = (
    "dataset", "metric", "protocol", "system", "baseline", "n", "units", "difference", "low", "high", "p", "p_holm",
    "effect_dz", "effect_rank", "verdict",
)  # fmt: skip


def compare_with_baseline(utterances: pd.DataFrame, systems: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Paired differences, system minus `baseline`, over the utterances that both scored.

    One row a data set, metric, protocol and system other than the baseline, systems in the order of `systems`.
    Columns: `dataset`, `metric`, `protocol` ("" for rows without one), `system`, `baseline`; `n` utterances and `units`
    (speakers, or utterances: `resampling_unit`) compared; `difference` (mean) with its 95 % interval `low`, `high`; `p`
    (Wilcoxon) and `p_holm` (corrected for all systems with a p in the same data set, metric and protocol but the known
    answers, which are no hypotheses: these have no p_holm and no verdict); `effect_dz`, `effect_rank` (see
    evalkit.stats.differences.PairedComparison); `verdict`: "better" or "worse" where p_holm < 0.05 and the interval
    excludes 0 ("higher" or "lower" for a metric of unknown direction), else "". NaN where a number does not exist.

    Args:
        utterances: rows of utterances.parquet; `protocol` may be missing.
        systems: rows of systems.parquet.
        baseline: the system that the others are compared with.

    Raises:
        ValueError: `baseline` is not in `systems`.
    """
    names = list(systems["system"])
    anchors = set(systems.loc[systems["kind"] == "anchor", "system"])
    if baseline not in names:
        raise ValueError(f"baseline {baseline!r} is none of the systems: {', '.join(map(str, names))}")
    rows = utterances.assign(protocol=utterances["protocol"].fillna("") if "protocol" in utterances else "")
    table = []
    for dataset, of_dataset in rows.groupby("dataset", sort=False):
        speakers = None
        if resampling_unit(of_dataset) == "speakers":
            speakers = dict(zip(of_dataset["utterance"], of_dataset["speaker"], strict=True))
        for (metric, protocol), family in of_dataset.groupby(["metric", "protocol"], sort=False):
            scores = _scores(family)
            compared = {
                name: compare_paired(scores.get(name, {}), scores.get(baseline, {}), clusters=speakers)
                for name in names
                if name != baseline
            }
            named = {"dataset": dataset, "metric": metric, "protocol": protocol}
            table += [named | row for row in _family(compared, baseline, str(metric), anchors)]
    return pd.DataFrame(table, columns=list(COLUMNS))


def _scores(family: pd.DataFrame) -> dict[str, dict[str, float]]:
    """System -> utterance -> value, of the rows that are ok."""
    ok = family[(family["status"] == "ok") & np.isfinite(family["value"].to_numpy(np.float64, na_value=math.nan))]
    return {
        str(name): dict(zip(rows["utterance"], rows["value"].astype(float), strict=True))
        for name, rows in ok.groupby("system", sort=False)
    }


def _family(
    compared: dict[str, PairedComparison], baseline: str, metric: str, anchors: Collection[str]
) -> list[dict[str, object]]:
    adjusted = holm_of({name: comparison.p for name, comparison in compared.items()}, anchors)
    direction = metric_format(metric).higher_is_better
    return [
        {"system": name, "baseline": baseline, "n": each.interval.n, "units": each.units}
        | each.numbers(adjusted[name])
        | {"verdict": verdict_of(each.side(adjusted[name]), direction)}
        for name, each in compared.items()
    ]
